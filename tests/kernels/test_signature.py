"""Reading shaders: each mistake in words, and the table of the build says what the shaders say."""

from __future__ import annotations

import re
import struct

import pytest

from nerf_metal import _C
from nerf_metal.kernels import signature
from tests.kernels.launches import KERNELS, SOURCES, STRUCTS
from tests.kernels.libraries import generator

pytestmark = pytest.mark.host_kernels

HEAD = "kernel void add_f32(\n"
A = "    device const float* a [[buffer(0)]],  // [n] world units\n"
B = "    device half* b [[buffer(1)]],  // [n, (m ? 2 : 3)]\n"
P = "    constant AddParams& p [[buffer(2)]],\n"
GID = "    uint gid [[thread_position_in_grid]])\n"
BODY = "{\n    b[gid] = a[gid];\n}\n"


def parse(*parts: str) -> tuple[signature.Kernel, ...]:
    return signature.parse_kernels("add", "".join(parts))


def test_kernel_is_read() -> None:
    (kernel,) = parse(HEAD, A, B, P, GID, BODY)
    assert kernel == signature.Kernel(
        "add_f32",
        "add",
        (
            signature.Buffer(0, "a", "float", False, ("n",), "float"),
            signature.Buffer(1, "b", "half", True, ("n", "(m ? 2 : 3)"), "half"),
        ),
        "AddParams",
        2,
        (signature.Builtin("thread_position_in_grid", 1),),
        False,
        "add_f32",
    )


@pytest.mark.parametrize(
    "body",
    [
        "{\n    x = simd_sum(a[0]);\n}\n",
        "{\n    simdgroup_load(m, a);\n}\n",
        "{\n    threadgroup_barrier(0);\n}\n",
        "{\n    SHARED(float, s, 4);\n}\n",
    ],
)
def test_kernel_with_collectives(body) -> None:
    first, second = parse(HEAD, A, B, P, GID, body, HEAD.replace("add", "sub"), A, B, P, GID, BODY)
    assert first.collective
    assert not second.collective


FAMILY = (
    "// length elements = m ? n : 3 * n\n\n"
    "template <typename T, bool SIMD>\nkernel void add(\n"
    "    device const T* a [[buffer(0)]],  // [elements] world units\n"
    "    device T* b [[buffer(1)]],  // [m * elements, 2u]\n" + P + GID.replace("])\n", "],\n")
    + "    uint lane [[thread_index_in_simdgroup]])\n{\n    b[gid] = SIMD ? T(simd_sum(a[gid])) : a[gid];\n}\n"
)  # fmt: skip
INSTANCES = "\nINSTANTIATE(add_f32, add, float, false);\nINSTANTIATE(add_simd_f16, add, half, true);\n"


def test_instances_of_a_template_are_read() -> None:
    plain, simd = parse(FAMILY, INSTANCES)
    assert [plain.name, plain.function, plain.collective] == ["add_f32", "add<float, false>", False]
    assert [simd.name, simd.function, simd.collective] == ["add_simd_f16", "add<half, true>", True]
    assert [b.dtype for b in plain.buffers] == ["float", "float"]
    assert [b.written for b in simd.buffers] == ["half", "half"]
    assert plain.buffers[1].shape == ("m * (m ? n : 3 * n)", "2")
    assert plain.builtins == simd.builtins


def test_readings_have_every_instance_as_a_plain_kernel_on_the_templates_lines() -> None:
    text = FAMILY + INSTANCES + HEAD + A + B + P + GID + BODY
    first, second = signature.readings(text)
    for reading, name, kind, flag in ((first, "add_f32", "float", "false"), (second, "add_simd_f16", "half", "true")):
        lines, written = reading.splitlines(), text.splitlines()
        assert len(lines) == len(written)
        assert lines[2:5] == ["", f"kernel void {name}(", written[4].replace("T*", f"{kind}*")]
        assert f"    b[gid] = {flag} ? {kind}(simd_sum(a[gid])) : a[gid];" in lines
        assert "INSTANTIATE" not in reading and "template" not in reading
        assert lines[-8:] == written[-8:]
    assert signature.readings(BODY) == [BODY]


FAMILY_MISTAKES = {
    "no instance": ((FAMILY,), "[add] must be instantiated: INSTANTIATE(name, add, T, SIMD);"),
    "too few arguments": (
        (FAMILY, "INSTANTIATE(add_f32, add, float);\n"),
        "[add_f32] must have 2 template arguments, got 1",
    ),
    "another template": (
        (FAMILY, INSTANCES, "INSTANTIATE(sub_f32, sub, float, true);\n"),
        "[sub_f32] must be an instance of one of the file's template kernels, got sub",
    ),
    "a parameter of another kind": (
        (FAMILY.replace("bool SIMD", "int SIMD"), INSTANCES),
        "[add] template parameters must be 'typename|bool|uint NAME', got 'typename T, int SIMD'",
    ),
    "a template on the kernel's line": (
        (FAMILY.replace("SIMD>\nkernel", "SIMD> kernel"), INSTANCES),
        "[add] a kernel must start with 'kernel void name(' and a line break",
    ),
}


@pytest.mark.parametrize("mistake", FAMILY_MISTAKES)
def test_mistake_in_a_template(mistake) -> None:
    parts, message = FAMILY_MISTAKES[mistake]
    with pytest.raises(ValueError) as caught:
        parse(*parts)
    assert str(caught.value) == message


@pytest.mark.parametrize("attribute", ["thread_index_in_simdgroup", "simdgroup_index_in_threadgroup"])
def test_kernel_with_a_lane_has_collectives(attribute) -> None:
    two = GID.replace("])\n", "],\n") + f"    uint lane [[{attribute}]])\n"
    assert parse(HEAD, A, B, P, two, BODY)[0].collective


MISTAKES = {
    "parameters on the first line": (
        ["kernel void add_f32(device const float* a [[buffer(0)]],  // [n]\n", P, GID, BODY],
        "[add] a kernel must start with 'kernel void name(' and a line break",
    ),
    "buffer without shape": (
        [HEAD, "    device const float* a [[buffer(0)]],\n", P, GID, BODY],
        "[add_f32] cannot read the parameter 'device const float* a [[buffer(0)]],'; "
        "see nerf_metal/kernels/signature.py",
    ),
    "buffer without index": (
        [HEAD, "    device const float* a,  // [n]\n", P, GID, BODY],
        "[add_f32] cannot read the parameter 'device const float* a,  // [n]'; see nerf_metal/kernels/signature.py",
    ),
    "unknown type": (
        [HEAD, A.replace("float", "double"), B, P, GID, BODY],
        "[add_f32] a must be of type ['float', 'half', 'int', 'uchar', 'uint'], got double",
    ),
    "hole in the indices": (
        [HEAD, A, B.replace("(1)", "(2)"), P, GID, BODY],
        "[add_f32] buffers must count 0, 1, 2, ... with the argument struct last",
    ),
    "struct before a buffer": (
        [HEAD, A, P.replace("(2)", "(1)"), B.replace("(1)", "(2)"), GID, BODY],
        "[add_f32] buffers must count 0, 1, 2, ... with the argument struct last",
    ),
    "no struct": (
        [HEAD, A, B, GID, BODY],
        "[add_f32] buffers must count 0, 1, 2, ... with the argument struct last",
    ),
    "unknown attribute": (
        [HEAD, A, B, P, GID.replace("thread_position_in_grid", "grid_origin"), BODY],
        "[add_f32] cannot read the parameter 'uint gid [[grid_origin]])'; see nerf_metal/kernels/signature.py",
    ),
    "unsigned attribute of another type": (
        [HEAD, A, B, P, GID.replace("uint", "ushort"), BODY],
        "[add_f32] cannot read the parameter 'ushort gid [[thread_position_in_grid]])'; "
        "see nerf_metal/kernels/signature.py",
    ),
    "lane of two components": (
        [HEAD, A, B, P, "    uint2 lane [[thread_index_in_simdgroup]])\n", BODY],
        "[add_f32] an index or a lane must be uint",
    ),
    "positions of one component and of two": (
        [HEAD, A, B, P, GID.replace(")\n", ",\n"), "    uint2 group [[threadgroup_position_in_grid]])\n", BODY],
        "[add_f32] positions must have as many components as each other",
    ),
    "too many buffers": (
        [
            HEAD,
            *(f"    device float* a{i} [[buffer({i})]],  // [1]\n" for i in range(31)),
            P.replace("(2)", "(31)"),
            GID,
            BODY,
        ],
        "[add_f32] must have at most 31 buffers, got 32",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_in_a_kernel(mistake) -> None:
    parts, message = MISTAKES[mistake]
    with pytest.raises(ValueError) as caught:
        parse(*parts)
    assert str(caught.value) == message


def test_structs_are_read() -> None:
    text = "struct P {\n    uint n;  // how many\n\n    float x;\n    // more\n    int k;\n};\n"
    text += "struct Q {\n    uint a;\n};\n"
    assert signature.parse_structs(text) == {"P": (("n", "uint"), ("x", "float"), ("k", "int")), "Q": (("a", "uint"),)}


@pytest.mark.parametrize("member", ["float3 x;", "uint a, b;", "float m[4];", "bool b;", "ushort s;"])
def test_members_of_other_types_are_refused(member) -> None:
    with pytest.raises(
        ValueError, match=rf"^\[P\] a member must be 'uint\|int\|float name;', got '{re.escape(member)}'$"
    ):
        signature.parse_structs(f"struct P {{\n    {member}\n}};\n")


def test_includes_are_put_in_once() -> None:
    sources = {
        "a.metal": '#include <metal_stdlib>\n#include "b.h"\n#include "c.h"\n#include "b.h"\na\n',
        "b.h": 'b1\n#include "c.h"\nb2\n',
        "c.h": '#include "b.h"\nc\n',  # a circle ends too
    }
    text = signature.inline_includes("a.metal", sources)
    assert text.split() == ["#include", "<metal_stdlib>", "b1", "c", "b2", "a"]


def test_missing_include() -> None:
    with pytest.raises(ValueError) as caught:
        signature.inline_includes("a.metal", {"a.metal": '#include "b.h"\n'})
    assert str(caught.value) == "[a.metal] #include \"b.h\" must name one of ['a.metal']; add the file"


@pytest.mark.parametrize("file", ["a.metal", "b.h"])
def test_other_characters_than_ascii(file) -> None:
    sources = {"a.metal": '#include "b.h"\n', "b.h": "b\n"}
    sources[file] += "// 1 \u2212 \u03b1\n"
    with pytest.raises(ValueError, match=rf"^\[{re.escape(file)}\] shader text must be ASCII, got other characters"):
        signature.inline_includes("a.metal", sources)


def test_embedded_sources_are_the_folder() -> None:
    embedded = _C.shader_sources()
    assert {name: embedded[name] for name in SOURCES} == SOURCES


def test_table_says_what_the_shaders_say() -> None:
    table = _C.kernel_table(loaded=False)
    assert len(KERNELS) > 8
    for name, kernel in KERNELS.items():
        buffers = tuple((b.name, b.dtype, b.writable) for b in kernel.buffers)
        assert table[name] == (kernel.library, buffers, kernel.params, kernel.collective)
    assert set(table) == set(KERNELS)


def test_structs_of_the_build() -> None:
    """The sizes that C++ asserted are those that Python packs."""
    built = _C.struct_table()
    for name, members in STRUCTS.items():
        assert built[name] == members
    for kernel in KERNELS.values():
        size = struct.calcsize("<" + "I" * len(STRUCTS[kernel.params]))
        with pytest.raises(ValueError, match=f"must have {size} bytes, got 1"):
            _C.launch_host(kernel.name, [None] * len(kernel.buffers), b"x", (1, 1, 1), (32, 1, 1), 1)


# SIMD-group forms in two kernels, with scratch between them, of what one plain kernel does.
HALVES = {"mlp_backward_rows_simd_f32": "mlp_backward_f32", "mlp_backward_weights_simd_f32": "mlp_backward_f32"}


def test_every_kernel_with_simd_features_has_a_plain_twin() -> None:
    for kernel in KERNELS.values():
        if kernel.collective:
            twin = KERNELS[HALVES.get(kernel.name, kernel.name.replace("_simd", ""))]
            assert not twin.collective
            assert twin.params == kernel.params
            if kernel.name not in HALVES:
                assert twin.buffers == kernel.buffers
    assert KERNELS.keys() >= HALVES.keys()


@pytest.mark.parametrize("name", sorted(KERNELS))
def test_every_kernel_says_its_grid_and_its_limits(name) -> None:
    text = SOURCES[f"{KERNELS[name].library}.metal"]
    lines = text[: text.index(f"kernel void {KERNELS[name].function.partition('<')[0]}(")].splitlines()
    if lines[-1].startswith("template <"):
        lines.pop()
    head = []
    while lines and lines[-1].startswith("//"):
        head.append(lines.pop())
    comment = "\n".join(head)
    assert "Dispatched threads: " in comment
    assert "Not handled: " in comment


def test_every_kernel_is_named_after_its_file() -> None:
    for kernel in KERNELS.values():
        assert kernel.name.startswith(f"{kernel.library}_")


class TestGenerator:
    """cmake/generate.py on small folders."""

    @pytest.fixture
    def metal(self, tmp_path):
        folder = tmp_path / "metal"
        folder.mkdir()
        (folder / "params.h").write_text("struct AddParams {\n    uint n;\n    uint m;\n};\n")
        (folder / "add.metal").write_text('#include "params.h"\n' + HEAD + A + B + P + GID + BODY)
        return folder

    def test_files(self, metal, tmp_path) -> None:
        generator().main(metal, tmp_path / "out")
        table = (tmp_path / "out" / "kernel_table.inc").read_text()
        assert "static_assert(offsetof(AddParams, m) == 4" in table
        assert "n[1] = (double(p.n)) * ((double(p.m) ? 2 : 3));" in table
        assert '{"b", DType::half_, true},' in table
        assert "#define NERF_METAL_SHADERS(F, isa) F(isa, add)\n" in table
        host = (tmp_path / "out" / "kernels_add.cpp").read_text()
        assert "static_cast<const float*>(buffers[0])" in host
        assert "static_cast<half*>(buffers[1])" in host
        assert '#include "add.metal"\n' in host
        assert "HostKernelTable NERF_METAL_TABLE(NERF_METAL_ISA, add) = {" in host

    def test_each_shader_has_a_file_that_others_leave_alone(self, metal, tmp_path) -> None:
        (metal / "sub.metal").write_text((metal / "add.metal").read_text().replace("add_f32", "sub_f32"))
        generator().main(metal, tmp_path / "out")
        before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir()}
        assert set(before) == {"kernel_table.inc", "kernels_add.cpp", "kernels_sub.cpp"}
        table = (tmp_path / "out" / "kernel_table.inc").read_text()
        assert '{"add_f32", "add", 0, 0, ' in table and '{"sub_f32", "sub", 1, 0, ' in table
        (metal / "sub.metal").write_text((metal / "sub.metal").read_text().replace("sub_f32", "sub_f16"))
        generator().main(metal, tmp_path / "out")
        after = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir()}
        assert {name for name in after if after[name] != before[name]} == {"kernel_table.inc", "kernels_sub.cpp"}

    def test_an_instance_is_called_by_its_arguments(self, metal, tmp_path) -> None:
        (metal / "add.metal").write_text('#include "params.h"\n' + FAMILY + INSTANCES)
        generator().main(metal, tmp_path / "out")
        text = (tmp_path / "out" / "kernels_add.cpp").read_text()
        assert "add<float, false>(a0, a1, p, uint(i), 0u);" in text  # a plain one looks at no lane
        assert "add<half, true>(a0, a1, p, ids.position_in_grid.x, ids.lane);" in text
        assert '{"add_f32", &range_add_f32, nullptr},' in text
        assert '{"add_simd_f16", nullptr, nullptr},' in text

    def test_files_that_would_not_change_are_left(self, metal, tmp_path) -> None:
        generator().main(metal, tmp_path / "out")
        before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir()}
        generator().main(metal, tmp_path / "out")
        assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir()}

    def test_long_sources_are_cut_into_literals(self, metal, tmp_path) -> None:
        text = "// " + "x" * 30_000 + "\n"
        (metal / "long.h").write_text(text)
        generator().main(metal, tmp_path / "out")
        table = (tmp_path / "out" / "kernel_table.inc").read_text()
        row = table[table.index('{"long.h", ') :].split("},")[0]
        pieces = re.findall(r'R"NERF_METAL\((.*?)\)NERF_METAL"', row, re.S)
        assert "".join(pieces) == text
        assert max(map(len, pieces)) <= 8000

    def test_struct_that_is_not_there(self, metal, tmp_path) -> None:
        (metal / "params.h").write_text("struct OtherParams {\n    uint n;\n};\n")
        words = r"^\[add_f32\] argument struct AddParams must stand in params\.h$"
        with pytest.raises(ValueError, match=words):
            generator().main(metal, tmp_path / "out")

    def test_plain_kernel_with_more_than_its_position(self, metal, tmp_path) -> None:
        more = GID.replace("])\n", "],\n") + "    uint group [[threadgroup_position_in_grid]])\n"
        (metal / "add.metal").write_text(HEAD + A + B + P + more + BODY)
        with pytest.raises(ValueError, match=r"^\[add_f32\] a plain kernel must take thread_position_in_grid alone$"):
            generator().main(metal, tmp_path / "out")

    def test_other_characters_than_ascii(self, metal, tmp_path) -> None:
        (metal / "add.metal").write_text("// \u03c3\n", encoding="utf-8")
        with pytest.raises(ValueError, match=r"^\[add\.metal\] shader text must be ASCII"):
            generator().main(metal, tmp_path / "out")
