"""``python -m tools.macos_wheel.torch_symbols``: which torch has the functions that the metal backend looks up.

Rows are the names that ``csrc/metal/metal.cpp`` resolves when it runs, columns the versions of torch. Exit code 1 where
a supported version lacks a name that it needs. A symbol is a name: only the mangled one says what the function takes.
"""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import dataclass

from tools.macos_wheel.build import ROOT, SYSTEM_SYMBOLS
from tools.macos_wheel.errors import ToolError
from tools.macos_wheel.torch_wheels import Torch, listed_versions, oldest_supported, read, release

_CALL = re.compile(r'^ *resolve\(\w+,\s+"(\w+)",\s+found\.(\w+)(?:,\s+([^;]+))?\);$', re.M)
_SUBSTITUTE = re.compile(r"found\.(\w+) != nullptr")


@dataclass(frozen=True)
class Lookup:
    """A name that the extension resolves into a member of its table: required, optional, or required unless another
    member was found."""

    name: str
    member: str
    optional: bool
    unless: str | None


def lookups() -> list[Lookup]:
    """All of ``csrc/metal/metal.cpp``, in its order.

    Raises:
        ToolError: for a call that is not understood.
    """
    text = (ROOT / "csrc" / "metal" / "metal.cpp").read_text(encoding="utf-8")
    found = []
    for name, member, optional in _CALL.findall(text):
        substitute = _SUBSTITUTE.fullmatch(optional)
        if optional not in ("", "true") and substitute is None:
            raise ToolError(
                f"[torch_symbols] resolve of {name} must be optional by true or by another member, got {optional}"
            )
        found.append(Lookup(name, member, optional == "true", substitute[1] if substitute else None))
    calls = text.count("resolve(") - 1  # but its definition
    if len(found) != calls:
        raise ToolError(
            f"[torch_symbols] csrc/metal/metal.cpp must have {calls} calls of resolve that are understood, "
            f"got {len(found)}"
        )
    return found


def missing(torch: Torch) -> list[str]:
    """Names that this version must export and does not."""
    exports = set(torch.exports)
    has = {lookup.member for lookup in lookups() if f"_{lookup.name}" in exports}
    return [
        lookup.name
        for lookup in lookups()
        if not lookup.optional and lookup.unless not in has and f"_{lookup.name}" not in exports
    ]


def paths(torch: Torch) -> dict[str, str]:
    """How this version would be used where metal.cpp and bindings.cpp have a choice."""
    exports = set(torch.exports)
    has = {lookup.member for lookup in lookups() if f"_{lookup.name}" in exports}
    return {
        "arguments over 8 bytes by": "function" if "set_bytes" in has else "method",
        "tensor handles by": "function" if "from_python" in has else "capsule",
        "reasons of errors": "yes" if "what" in has else "-",
    }


def table(versions: list[Torch]) -> str:
    """The names against the versions."""
    rows = [["torch", *(torch.version for torch in versions)]]
    exports = [set(torch.exports) for torch in versions]
    for lookup in lookups():
        need = "optional" if lookup.optional else f"or {lookup.unless}" if lookup.unless else "required"
        cells = ["yes" if f"_{lookup.name}" in names else "-" for names in exports]
        rows.append([f"{lookup.name} ({need})", *cells])
    ways = [paths(torch) for torch in versions]
    rows += [[way, *(each[way] for each in ways)] for way in ways[0]]
    rows.append(["built for macOS", *(".".join(map(str, torch.macos)) for torch in versions)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def system_symbols_text(torch: Torch) -> str:
    """The file ``system_symbols.txt``: what is proven to be in the system's libraries."""
    lines = [
        f"# What torch {torch.version} imports, without which it does not load, from macOS's own libraries. Made by",
        f"# python -m tools.macos_wheel.torch_symbols --imports > {SYSTEM_SYMBOLS.relative_to(ROOT).as_posix()}",
        *(f"{library} {symbol}" for library, symbols in torch.imports.items() for symbol in symbols),
    ]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """0 where every supported version has every required name, 1 where not, 2 where a version cannot be read."""
    parser = argparse.ArgumentParser(prog="python -m tools.macos_wheel.torch_symbols", description=__doc__)
    parser.add_argument("versions", nargs="*", metavar="VERSION", help="of torch; all supported ones of the index")
    parser.add_argument("--imports", action="store_true", help="print what the oldest supported torch imports instead")
    options = parser.parse_args(arguments)
    try:
        if options.imports:
            print(system_symbols_text(read(oldest_supported())), end="")
            return 0
        torches = [read(version) for version in options.versions or listed_versions()]
        print(table(torches))
        failed = False
        for torch in torches:
            lacking = missing(torch)
            supported = release(torch.version) >= release(oldest_supported())
            failed = failed or bool(lacking and supported)
            if lacking:
                print(f"torch {torch.version} {'must' if supported else 'is too old to'} export {', '.join(lacking)}")
    except ToolError as error:
        print(error, file=sys.stderr)
        return 2
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
