"""Mach-O as the checks need it: where a file runs, what it needs when it is loaded, what it gives, its signature."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import lief

from proof.macos_wheel.errors import ToolError

FLAT = ""  # the library of an import that is looked for in all of the process
_MAGIC_SIGNATURE, _MAGIC_DIRECTORY = 0xFADE0CC0, 0xFADE0C02
_SHA256 = 2
_ADHOC = 0x2


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
    return Image(
        architectures=tuple(b.header.cpu_type.name for b in fat),
        file_type=binary.header.file_type.name,
        platform=build.platform.name if build is not None else "unknown",
        macos=(major, minor),
        libraries=tuple(
            str(library.name) for library in binary.libraries if library.command != lief.MachO.LoadCommand.TYPE.ID_DYLIB
        ),
        imports=frozenset(_imports(binary)),
        exports=frozenset(str(export.symbol.name) for export in trie.exports if export.symbol is not None)
        if trie is not None
        else frozenset(),
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


def signature_problem(path: Path) -> str | None:
    """Why arm64 macOS would kill a process that maps this file, or None: it runs no page whose hash is not signed."""
    fat = lief.MachO.parse(str(path))
    binary = fat.at(0) if fat is not None else None
    if binary is None or binary.code_signature is None:
        return "has no code signature"
    data = path.read_bytes()
    start = binary.code_signature.data_offset
    magic, _, count = struct.unpack_from(">3I", data, start)
    blobs = [start + struct.unpack_from(">2I", data, start + 12 + 8 * i)[1] for i in range(count)]
    directories = [blob for blob in blobs if struct.unpack_from(">I", data, blob)[0] == _MAGIC_DIRECTORY]
    if magic != _MAGIC_SIGNATURE or not directories:
        return "has a code signature without a code directory"
    at = directories[0]
    _, _, _, flags, hashes, _, _, pages, limit, size, kind, _, log_page = struct.unpack_from(">9I4B", data, at)
    if not flags & _ADHOC or kind != _SHA256:
        return f"must be signed ad hoc with SHA-256, got flags {flags:#x} and hash type {kind}"
    if limit != start or pages != -(-limit >> log_page):
        return f"signs {pages} pages up to byte {limit}, but the signature is at byte {start}"
    for i in range(pages):
        page = data[i << log_page : min((i + 1) << log_page, limit)]
        if hashlib.sha256(page).digest() != data[at + hashes + i * size : at + hashes + (i + 1) * size]:
            return f"page {i} of {pages} is not what was signed"
    return None
