"""Mach-O as the checks need it: where a file runs, what it needs when it is loaded, what it gives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import lief

from proof.macos_wheel import ToolError

FLAT = ""  # the library of an import that is looked for in all of the process


@dataclass(frozen=True)
class Import:
    """A symbol that the loader must find, in ``library``; a weak one may be missing."""

    symbol: str
    library: str
    weak: bool


@dataclass(frozen=True)
class Image:
    """One architecture of a file."""

    architectures: tuple[str, ...]  # of the whole file
    file_type: str
    platform: str
    macos: tuple[int, int]
    signed: bool
    libraries: tuple[str, ...]
    imports: frozenset[Import]
    exports: frozenset[str]


def read(path: Path) -> Image:
    """The file's first architecture. Symbols keep the underscore that Mach-O puts before C names.

    Raises:
        ToolError: for a file that is no Mach-O.
    """
    lief.logging.disable()  # it complains of what it skips
    fat = lief.MachO.parse(str(path)) if path.is_file() else None
    if fat is None:
        raise ToolError(f"[macho] {path} must be a Mach-O file, got another; give one built for macOS")
    binary = fat.at(0)
    assert binary is not None
    build = binary.build_version
    major, minor, *_ = build.minos if build is not None else (0, 0)
    trie = binary.dyld_exports_trie or binary.dyld_info
    exported = trie.exports if trie is not None else ()
    own_id = lief.MachO.LoadCommand.TYPE.ID_DYLIB
    return Image(
        architectures=tuple(b.header.cpu_type.name for b in fat),
        file_type=binary.header.file_type.name,
        platform=build.platform.name if build is not None else "unknown",
        macos=(major, minor),
        signed=binary.code_signature is not None,
        libraries=tuple(str(library.name) for library in binary.libraries if library.command != own_id),
        imports=frozenset(_imports(binary)),
        exports=frozenset(str(export.symbol.name) for export in exported if export.symbol is not None),
    )


def _imports(binary: lief.MachO.Binary) -> Iterator[Import]:
    own = {r.address for r in binary.relocations if isinstance(r, lief.MachO.RelocationDyld)}
    weak = lief.MachO.DyldBindingInfo.CLASS.WEAK
    for binding in binary.bindings:
        if binding.symbol is None:
            continue
        # Asks whether another image has the same inline function or type. Where none has, dyld leaves the pointer to
        # the image's own, if there is one.
        if isinstance(binding, lief.MachO.DyldBindingInfo) and binding.binding_class == weak and binding.address in own:
            continue
        library = str(binding.library.name) if binding.library is not None else FLAT
        yield Import(str(binding.symbol.name), library, bool(binding.weak_import))
