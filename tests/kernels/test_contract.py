"""What a shader takes, as clang reads it, and what the host binds: indices, names, types, the bytes of the structs."""

from __future__ import annotations

import re
import struct
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from nerf_metal import kernels
from nerf_metal.kernels import extension
from proof.conformance.clang import compile_shader
from tests.kernels.double import Double
from tests.kernels.launches import KERNELS, STRUCTS, zeros
from tests.kernels.libraries import METAL

pytestmark = [pytest.mark.metal_encoding, pytest.mark.conformance]

LIBRARIES = sorted(path.stem for path in METAL.glob("*.metal"))
# What a tensor of the host's type holds, by the shader's element type: torch has no uint32.
HOST_TYPES = {"metal::atomic_float_": "float", "metal::atomic_uint_": "int"}
FORMATS = {"uint": "I", "int": "i", "float": "f"}


@cache
def declarations(library: str) -> list[dict[str, Any]]:
    """What stands in a shader, headers too, outside functions; from further readings what the first has not."""
    with tempfile.TemporaryDirectory() as folder:
        compilations = compile_shader(METAL / f"{library}.metal", Path(folder))
    first, *others = (reading.tree["inner"] for reading in compilations)
    known = {d.get("name") for d in first}
    for reading in others:
        first += [d for d in reading if d.get("name") not in known]
        known |= {d.get("name") for d in reading}
    return first


def attribute(parameter: dict[str, Any]) -> list[str]:
    """A parameter's ``[[name(arguments)]]``."""
    (annotation,) = (inner for inner in parameter["inner"] if inner["kind"] == "AnnotateAttr")

    def values(node: dict[str, Any]) -> list[str]:
        own = re.findall(r"\w+", str(node["value"]))[:1] if "value" in node else []  # 3 or &"buffer"[0]
        return own or [value for inner in node.get("inner", []) for value in values(inner)]

    return values(annotation)


def parameters(kernel: str) -> list[tuple[str, list[str], str]]:
    """Name, attribute and type of each parameter."""
    found = [d for d in declarations(KERNELS[kernel].library) if d.get("name") == kernel]
    assert len(found) == 1
    return [
        (part["name"], attribute(part), part["type"]["qualType"])
        for part in found[0]["inner"]
        if part["kind"] == "ParmVarDecl"
    ]


def members(name: str) -> list[tuple[str, str]]:
    """Members of a struct, in order."""
    (found,) = (d for d in declarations("march") if d.get("name") == name and d["kind"] == "CXXRecordDecl")
    return [(m["name"], m["type"]["qualType"]) for m in found["inner"] if m["kind"] == "FieldDecl"]


def layout(header: str, struct_members: dict[str, list[tuple[str, str]]], folder) -> list[str]:
    """What clang says against structs of 4-byte members without gaps, by Metal's sizes and alignments."""
    lines = [header]
    for name, parts in struct_members.items():
        lines.append(f'static_assert(sizeof({name}) == {4 * len(parts)}, "{name} has gaps");')
        lines.append(f'static_assert(alignof({name}) == 4, "{name} is aligned otherwise");')
        for i, (member, kind) in enumerate(parts):
            lines.append(
                f'static_assert(__builtin_offsetof({name}, {member}) == {4 * i}, "{name}.{member} lies elsewhere");'
            )
            lines.append(
                f'static_assert(__is_same(decltype({name}::{member}), {kind}), "{name}.{member} is no {kind}");'
            )
    path = folder / "layout.metal"
    path.write_text("\n".join(lines))
    return [d.text for d in compile_shader(path, folder)[0].diagnostics if d.error]


def host_structs() -> dict[str, list[tuple[str, str]]]:
    """Members as the launcher packs them."""
    return {name: list(extension.load().struct_table()[name]) for name in STRUCTS}


def test_the_host_knows_every_kernel() -> None:
    built = set(extension.load().kernel_table(loaded=False))
    read = {
        d["name"]
        for library in LIBRARIES
        for d in declarations(library)
        if d["kind"] == "FunctionDecl" and any(part["kind"].endswith("KernelAttr") for part in d.get("inner", []))
    }
    assert built == read == set(KERNELS)


@pytest.mark.parametrize("kernel", KERNELS)
def test_buffers_are_bound_as_the_shader_numbers_them(metal: Double, kernel: str) -> None:
    """clang's reading of the parameters, the launcher's table, and the calls that a launch makes."""
    found = parameters(kernel)
    buffers = [part for part in found if part[1][0] == "buffer"]
    assert [int(index) for _, (_, index), _ in buffers] == list(range(len(buffers)))
    _, table, params_type, _ = extension.load().kernel_table()[kernel]
    for (name, _, kind), (host_name, host_type, writable) in zip(buffers[:-1], table, strict=True):
        element = kind.removesuffix(" *__private").replace("__global", "").split()
        assert kind.endswith("*__private") and "__global" in kind
        assert (name, writable) == (host_name, "const" not in element)
        assert HOST_TYPES.get(element[-1], element[-1]) == host_type
    assert buffers[-1][2] == f"__constant {params_type} &__private"

    params = dict.fromkeys((name for name, _ in STRUCTS[params_type]), 1)
    tensors = zeros(kernel, params)
    kernels.launch(kernel, tensors, params, (32, 1), backend="metal")
    bound = metal.calls("set_arg_tensor")
    assert [call["index"] for call in bound] == list(range(len(table)))
    assert [call["data"] for call in bound] == [tensor.data_ptr() for tensor in tensors]
    (constants,) = (call for call in metal.log() if call["call"] in ("set_arg_bytes", "set_arg_int"))
    assert constants["index"] == int(buffers[-1][1][1])


@pytest.mark.parametrize("kernel", KERNELS)
def test_threads_are_given_what_the_shader_asks_for(kernel: str) -> None:
    builtins = [
        (part[1][0], part[2].removeprefix("__private ")) for part in parameters(kernel) if part[1][0] != "buffer"
    ]
    wanted = [(b.attribute, "uint" if b.components == 1 else f"uint{b.components}") for b in KERNELS[kernel].builtins]
    assert builtins == wanted


def test_structs_have_metals_layout(tmp_path) -> None:
    assert layout('#include "common.h"\n#include "params.h"', host_structs(), tmp_path) == []


def test_a_vector_in_a_struct_would_be_found(tmp_path) -> None:
    """A float3 takes 16 bytes in Metal and 12 on the host; other members, orders and types are found too."""
    header = '#include "common.h"\nstruct S { float a; float3 b; uint c; };'
    found = layout(header, {"S": [("a", "float"), ("b", "float3"), ("c", "uint")]}, tmp_path)
    assert [text.split("failed")[-1].split(":")[-1].strip() for text in found] == [
        "S has gaps",
        "S is aligned otherwise",
        "S.b lies elsewhere",
        "S.c lies elsewhere",
    ]
    swapped = layout("struct S { int a; float b; };", {"S": [("b", "float"), ("a", "uint")]}, tmp_path)
    assert [text.split(":")[-1].strip() for text in swapped] == [
        "S.b lies elsewhere",
        "S.a lies elsewhere",
        "S.a is no uint",
    ]


@pytest.mark.parametrize("name", STRUCTS)
def test_structs_are_packed_as_the_shader_lays_them_out(metal: Double, name: str) -> None:
    """Each member another value, read back from the bytes that were bound, in clang's order."""
    order = members(name)
    params = {member: i + (0.5 if kind == "float" else 0) for i, (member, kind) in enumerate(order, start=1)}
    kernel = next(kernel.name for kernel in KERNELS.values() if kernel.params == name)
    kernels.launch(kernel, zeros(kernel, params), params, (32, 1), backend="metal")
    (constants,) = (call for call in metal.log() if call["call"] in ("set_arg_bytes", "set_arg_int"))
    size = 4 * len(order)
    values = struct.unpack("<" + "".join(FORMATS[kind] for _, kind in order), bytes.fromhex(constants["bytes"])[:size])
    assert dict(zip((member for member, _ in order), values, strict=True)) == params
