"""``python -m proof.macos_wheel.torch_symbols``: which torch has the functions that the metal backend looks up.

One line for each version of torch: which of the names that the launcher resolves when it runs it does not export. Exit
code 1 where a supported version lacks a name that must be there. A symbol is a name: only the mangled one says what the
function takes.
"""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from dataclasses import dataclass

from proof.macos_wheel import ToolError, UnreachableError
from proof.macos_wheel.build import ROOT, SYSTEM_SYMBOLS
from proof.macos_wheel.torch_wheels import Torch, listed_versions, oldest_supported, read, release

_CALL = re.compile(r'^ *resolve\(\w+,\s+"(\w+)",\s+found\.(\w+)(?:,\s+([^;]+))?\);$', re.M)
_WRAPPED = textwrap.TextWrapper(
    118, initial_indent="  ", subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
)
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


def system_symbols_text(torch: Torch) -> str:
    """The file ``system_symbols.txt``: what is proven to be in the system's libraries."""
    lines = [
        f"# What torch {torch.version} imports, without which it does not load, from macOS's own libraries. Made by",
        f"# python -m proof.macos_wheel.torch_symbols --imports > {SYSTEM_SYMBOLS.relative_to(ROOT).as_posix()}",
    ]
    for library, symbols in torch.imports.items():
        lines.append(f"{library}:")
        lines += _WRAPPED.wrap(" ".join(symbols))
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """0 where every supported version has every required name, 1 where not, 2 where a version cannot be read."""
    parser = argparse.ArgumentParser(prog="python -m proof.macos_wheel.torch_symbols", description=__doc__)
    parser.add_argument("versions", nargs="*", metavar="VERSION", help="of torch; all supported ones of the index")
    parser.add_argument("--imports", action="store_true", help="print what the oldest supported torch imports instead")
    options = parser.parse_args(arguments)
    try:
        if options.imports:
            print(system_symbols_text(read(oldest_supported())), end="")
            return 0
        torches, unread = [], []
        for version in options.versions or listed_versions():
            try:
                torches.append(read(version))
            except UnreachableError as error:
                unread.append((version, error))
        if not torches:
            raise unread[0][1]
    except ToolError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{len(lookups())} names")
    failed = False
    for torch in torches:
        needed = missing(torch)
        lacking = ", ".join(needed) or "nothing that is needed"
        without = ", ".join(lookup.name for lookup in lookups() if f"_{lookup.name}" not in torch.exports) or "nothing"
        supported = release(torch.version) >= release(oldest_supported())
        failed |= supported and bool(needed)
        macos = ".".join(map(str, torch.macos))
        print(f"torch {torch.version} for macOS {macos} lacks {lacking}; of all names: {without}")
    for version, reason in unread:
        print(f"torch {version} was not read: {reason}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
