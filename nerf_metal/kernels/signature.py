"""Read kernel signatures and argument structs out of shader text.

The build turns them into the table that the launcher checks every launch against; at run time an edited shader is
compared with that table. Standard library alone: the build runs this file before anything is installed.

A kernel is ``kernel void name(`` and one parameter a line. Buffers carry their shape in a comment, an expression
over the members of the argument struct: ``device float* rgb [[buffer(0)]],  // [n_rays, 3] unit``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

DTYPES = {"float": 4, "half": 2, "int": 4, "uint": 4, "uchar": 1}  # element type -> bytes
ATOMICS = {"atomic_float": "float", "atomic_uint": "int"}  # as written -> what tensors hold (torch has no uint32)
COLLECTIVES = ("simd_", "simdgroup_", "threadgroup_barrier", "SHARED(")
BUILTINS = (
    "thread_position_in_grid",
    "threadgroup_position_in_grid",
    "thread_position_in_threadgroup",
    "thread_index_in_threadgroup",
    "thread_index_in_simdgroup",
    "simdgroup_index_in_threadgroup",
)
MAX_BUFFERS = 31  # of a compute encoder, Metal feature set tables


@dataclass(frozen=True)
class Buffer:
    """One ``device`` pointer: index, element type, written or only read, its shape's expressions, and the type as
    written, which is another for atomics."""

    index: int
    name: str
    dtype: str
    writable: bool
    shape: tuple[str, ...]
    written: str


@dataclass(frozen=True)
class Builtin:
    """One thread attribute: its name, and 1 to 3 components."""

    attribute: str
    components: int


@dataclass(frozen=True)
class Kernel:
    """A kernel's name, the file it stands in, and its parameters in order."""

    name: str
    library: str
    buffers: tuple[Buffer, ...]
    params: str
    params_index: int
    builtins: tuple[Builtin, ...]
    collective: bool


_INCLUDE = re.compile(r'^\s*#include\s+"([^"]+)"\s*$', re.M)
_KERNEL = re.compile(r"^kernel\s+void\s+(\w+)\s*\(\s*\n(.*?)\n\{", re.M | re.S)
_BUFFER = re.compile(r"^device\s+(const\s+)?(\w+)\*\s+(\w+)\s+\[\[buffer\((\d+)\)\]\],\s*//\s*\[(.+?)\](?:\s|$)")
_PARAMS = re.compile(r"^constant\s+(\w+)&\s+p\s+\[\[buffer\((\d+)\)\]\],$")
_BUILTIN = re.compile(r"^(uint|uint2|uint3)\s+\w+\s+\[\[(\w+)\]\][,)]$")
_STRUCT = re.compile(r"^struct\s+(\w+)\s*\{(.*?)^\};", re.M | re.S)
_MEMBER = re.compile(r"^(uint|int|float)\s+(\w+);$")


def inline_includes(name: str, sources: dict[str, str]) -> str:
    """The text of one shader with every ``#include "x.h"`` replaced once, as one string needs it.

    Args:
        name: file name, e.g. ``"march.metal"``.
        sources: file name to text.

    Raises:
        ValueError: for an include that is not among the sources, and for text that is not ASCII (Metal is handed
            ASCII by torch).
    """
    seen: set[str] = set()

    def expand(file: str) -> str:
        if file not in sources:
            raise ValueError(f'[{name}] #include "{file}" must name one of {sorted(sources)}; add the file')
        if not sources[file].isascii():
            raise ValueError(f"[{file}] shader text must be ASCII, got other characters; replace them")
        seen.add(file)
        return _INCLUDE.sub(lambda m: "" if m[1] in seen else expand(m[1]), sources[file])

    return expand(name)


def split_shape(shape: str) -> tuple[str, ...]:
    """Split ``"a, (b ? c : d), 3"`` at its commas (shapes hold no calls)."""
    return tuple(part.strip() for part in shape.split(","))


def parse_structs(text: str) -> dict[str, tuple[tuple[str, str], ...]]:
    """Argument structs in a header: struct name to ((member, type), ...); members are 4-byte scalars."""
    structs: dict[str, tuple[tuple[str, str], ...]] = {}
    for match in _STRUCT.finditer(text):
        members = []
        for raw in match[2].splitlines():
            line = raw.split("//")[0].strip()
            if not line:
                continue
            member = _MEMBER.match(line)
            if member is None:
                raise ValueError(f"[{match[1]}] a member must be 'uint|int|float name;', got {line!r}")
            members.append((member[2], member[1]))
        structs[match[1]] = tuple(members)
    return structs


def parse_kernels(library: str, text: str) -> tuple[Kernel, ...]:
    """Kernels of one ``.metal`` file; ``library`` is its stem.

    Raises:
        ValueError: for a parameter in any other form than this module's head describes, in words.
    """
    matches = list(_KERNEL.finditer(text))
    if len(matches) != len(re.findall(r"^\s*kernel\s", text, re.M)):
        raise ValueError(f"[{library}] a kernel must start with 'kernel void name(' and a line break")
    kernels = []
    for i, match in enumerate(matches):
        end = matches[i + 1].start() if i + 1 < len(matches) else len(text)
        kernels.append(_parse_kernel(library, match[1], match[2], text[match.end() : end]))
    return tuple(kernels)


def _parse_kernel(library: str, name: str, parameters: str, body: str) -> Kernel:
    buffers: list[Buffer] = []
    builtins: list[Builtin] = []
    params, params_index = "", -1
    for line in (raw.strip() for raw in parameters.splitlines()):
        if found := _BUFFER.match(line):
            const, written, buffer_name, index, shape = found.groups()
            dtype = ATOMICS.get(written, written)
            if dtype not in DTYPES:
                raise ValueError(f"[{name}] {buffer_name} must be of type {sorted(DTYPES)}, got {dtype}")
            buffers.append(Buffer(int(index), buffer_name, dtype, const is None, split_shape(shape), written))
        elif found := _PARAMS.match(line):
            params, params_index = found[1], int(found[2])
        elif (found := _BUILTIN.match(line)) and found[2] in BUILTINS:
            builtins.append(Builtin(found[2], {"uint": 1, "uint2": 2, "uint3": 3}[found[1]]))
        else:
            raise ValueError(f"[{name}] cannot read the parameter {line!r}; see nerf_metal/kernels/signature.py")
    if [b.index for b in buffers] != list(range(len(buffers))) or params_index != len(buffers):
        raise ValueError(f"[{name}] buffers must count 0, 1, 2, ... with the argument struct last")
    if params_index >= MAX_BUFFERS:
        raise ValueError(f"[{name}] must have at most {MAX_BUFFERS} buffers, got {params_index + 1}")
    if any(b.components != 1 for b in builtins if "index" in b.attribute):
        raise ValueError(f"[{name}] an index or a lane must be uint")
    if len({b.components for b in builtins if "position" in b.attribute}) > 1:
        raise ValueError(f"[{name}] positions must have as many components as each other")
    # A kernel that takes a lane or calls a *_group function runs collectives.
    collective = any(word in body for word in COLLECTIVES) or any(
        b.attribute in ("thread_index_in_simdgroup", "simdgroup_index_in_threadgroup") for b in builtins
    )
    return Kernel(name, library, tuple(buffers), params, params_index, tuple(builtins), collective)


def read_sources(directory: Path) -> dict[str, str]:
    """Every shader and header of a directory: file name to text."""
    return {
        path.name: path.read_text(encoding="utf-8")
        for path in sorted(directory.iterdir())
        if path.suffix in (".metal", ".h")
    }
