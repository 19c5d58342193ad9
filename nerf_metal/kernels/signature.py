"""Read kernel signatures and argument structs out of shader text.

The build turns them into the table that the launcher checks every launch against; at run time an edited shader is
compared with that table. Standard library alone: the build runs this file before anything is installed.

A kernel is ``kernel void name(`` and one parameter a line. Buffers carry their shape in a comment, an expression
over the members of the argument struct: ``device float* rgb [[buffer(0)]],  // [n_rays, 3] unit``. What several shapes
share has a name: ``// length samples = packed ? n_samples : n_rays * n_samples``.

Kernels that differ by a type or a constant are one template, and a line for each of them says its name and its
arguments: ``INSTANTIATE(composite_forward_f32, composite_forward, float, false);``. A parameter ``bool SIMD`` of a
template says whether it runs collectives; where it does not, a lane that the template takes is not looked at.
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
LANES = ("thread_index_in_simdgroup", "simdgroup_index_in_threadgroup")
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
    """A kernel's name, the file it stands in, its parameters in order, and the function that it is: the name again, or
    an instance of a template."""

    name: str
    library: str
    buffers: tuple[Buffer, ...]
    params: str
    params_index: int
    builtins: tuple[Builtin, ...]
    collective: bool
    function: str


_INCLUDE = re.compile(r'^\s*#include\s+"([^"]+)"\s*$', re.M)
_KERNEL = re.compile(
    r"^(?:template <(?P<template>[^>\n]*)>\n)?kernel\s+void\s+(?P<name>\w+)\s*\(\s*\n"
    r"(?P<parameters>.*?)\n\{(?P<body>.*?\n)\}$",
    re.M | re.S,
)
_ANY_KERNEL = re.compile(r"^\s*(?:template\s*<.*>\s*)?kernel\s", re.M)
_INSTANCE = re.compile(r"^INSTANTIATE\(([^()\n]*)\);", re.M)
_TEMPLATE_PARAMETER = re.compile(r"^(typename|bool|uint) (\w+)$")
_LENGTH = re.compile(r"^// length (\w+) = (.+)$", re.M)
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
    """Kernels of one ``.metal`` file, in the order of their names' first mention; ``library`` is its stem.

    Raises:
        ValueError: for a parameter in any other form than this module's head describes, in words.
    """
    matches = list(_KERNEL.finditer(text))
    if len(matches) != len(_ANY_KERNEL.findall(text)):
        raise ValueError(f"[{library}] a kernel must start with 'kernel void name(' and a line break")
    lengths = dict(_LENGTH.findall(text))
    known = {match["name"] for match in matches if match["template"] is not None}
    for name, function, _ in _instances(text):
        if function not in known:
            raise ValueError(f"[{name}] must be an instance of one of the file's template kernels, got {function}")
    kernels = []
    for match in matches:
        for instance in instances_of(match, text):
            kernels.append(_parse_kernel(library, instance, match, lengths))
    return tuple(kernels)


@dataclass(frozen=True)
class Instance:
    """A kernel of a template, or a plain one, which is its own: its name, and what each of the template's parameters
    stands for."""

    name: str
    function: str
    values: dict[str, str]

    def of(self, text: str) -> str:
        """A part of the template's text with its arguments."""
        return re.sub(r"\b\w+\b", lambda m: self.values.get(m[0], m[0]), text)


def _instances(text: str) -> list[tuple[str, str, list[str]]]:
    """Name, template and arguments of every instance that a text asks for."""
    found = []
    for match in _INSTANCE.finditer(text):
        name, function, *arguments = (part.strip() for part in f"{match[1]},".split(","))
        found.append((name, function, arguments[:-1]))
    return found


def instances_of(match: re.Match[str], text: str) -> list[Instance]:
    """The kernels that come of one definition.

    Raises:
        ValueError: for a template without instances, and arguments that are not its parameters'.
    """
    name = match["name"]
    if match["template"] is None:
        return [Instance(name, name, {})]
    parameters = [_TEMPLATE_PARAMETER.match(part.strip()) for part in match["template"].split(",")]
    if any(p is None for p in parameters):
        raise ValueError(f"[{name}] template parameters must be 'typename|bool|uint NAME', got {match['template']!r}")
    names = [p[2] for p in parameters if p is not None]
    found = []
    for instance, function, arguments in _instances(text):
        if function != name:
            continue
        if len(arguments) != len(names):
            raise ValueError(f"[{instance}] must have {len(names)} template arguments, got {len(arguments)}")
        values = dict(zip(names, arguments, strict=True))
        found.append(Instance(instance, f"{name}<{', '.join(arguments)}>", values))
    if not found:
        raise ValueError(f"[{name}] must be instantiated: INSTANTIATE(name, {name}, {', '.join(names)});")
    return found


def readings(text: str) -> list[str]:
    """A shader's text for readers that know no template kernels: each text has one of every template's instances as
    a plain kernel on the template's own lines, and all together have every instance. A template without instances
    stays as it is.
    """
    asked = {function for _, function, _ in _instances(text)}
    templates = [m for m in _KERNEL.finditer(text) if m["template"] is not None and m["name"] in asked]
    found = {match["name"]: instances_of(match, text) for match in templates}

    def reading(k: int) -> str:
        def instance(match: re.Match[str]) -> str:
            if match["template"] is None or match["name"] not in found:
                return match[0]
            same = found[match["name"]]
            one = same[min(k, len(same) - 1)]
            start = match.start()
            head, rest = match[0][: match.start("name") - start], match[0][match.end("name") - start :]
            return "\nkernel" + head.partition("kernel")[2] + one.name + one.of(rest)

        def line(match: re.Match[str]) -> str:
            return "" if any(part.strip() in found for part in match[1].split(",")[1:2]) else match[0]

        return _INSTANCE.sub(line, _KERNEL.sub(instance, text))

    return [reading(k) for k in range(max(map(len, found.values()), default=1))]


def _parse_kernel(library: str, instance: Instance, match: re.Match[str], lengths: dict[str, str]) -> Kernel:
    name = instance.name
    buffers: list[Buffer] = []
    builtins: list[Builtin] = []
    params, params_index = "", -1
    for line in (raw.strip() for raw in instance.of(match["parameters"]).splitlines()):
        if found := _BUFFER.match(line):
            const, written, buffer_name, index, shape = found.groups()
            dtype = ATOMICS.get(written, written)
            if dtype not in DTYPES:
                raise ValueError(f"[{name}] {buffer_name} must be of type {sorted(DTYPES)}, got {dtype}")
            parts = tuple(_named_lengths(part, lengths) for part in split_shape(shape))
            buffers.append(Buffer(int(index), buffer_name, dtype, const is None, parts, written))
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
    # A kernel that takes a lane or calls a *_group function runs collectives; of a template SIMD says so.
    collective = any(word in match["body"] for word in COLLECTIVES) or any(b.attribute in LANES for b in builtins)
    if "SIMD" in instance.values:
        collective = instance.values["SIMD"] == "true"
    return Kernel(name, library, tuple(buffers), params, params_index, tuple(builtins), collective, instance.function)


def _named_lengths(part: str, lengths: dict[str, str]) -> str:
    """A shape's expression with the names of lengths written out, and numbers without C++'s suffix."""
    part = re.sub(r"\b(\d+)u\b", r"\1", part)
    return re.sub(r"\b\w+\b", lambda m: f"({lengths[m[0]]})" if m[0] in lengths else m[0], part)


def read_sources(directory: Path) -> dict[str, str]:
    """Every shader and header of a directory: file name to text."""
    return {
        path.name: path.read_text(encoding="utf-8")
        for path in sorted(directory.iterdir())
        if path.suffix in (".metal", ".h")
    }
