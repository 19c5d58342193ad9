"""Nothing in the kernels and the launcher that the sanitizers object to, and that they do object to what is wrong."""

from __future__ import annotations

import functools
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from proof.sanitizers.__main__ import cases, main, run_case, usual_isas
from proof.sanitizers.build import FLAGS, Run, Tree, UnavailableError, build_module, copy_and_build, toolchain
from tests.kernels.libraries import METAL

pytestmark = pytest.mark.sanitizers
ISAS = usual_isas()
CASES = {case.name: case for case in cases(ISAS)}
# A shader of the package's own with one index changed.
RIGHT, WRONG = "    bits[gid] = int(word);", "    bits[gid + 1u] = int(word);"
MUTANT = "mutant_pack_f32"
OVERFLOW = "heap-buffer-overflow"
# Kernels with one fault each, and the words of the report on the line that has them; x and y have n elements, n is 32.
BROKEN = {
    "read": f"    y[gid] = x[gid + 1u];  // report: {OVERFLOW}",
    "write": f"    y[gid + 1u] = x[gid];  // report: {OVERFLOW}",
    "array": """    float own[8] = {x[gid], x[gid], x[gid], x[gid], x[gid], x[gid], x[gid], x[gid]};
    thread float* const any = own;
    y[gid] = any[p.n / 4u];  // report: insufficient space for an object""",
    "sum": "    y[gid] = float(int(0x7FFFFFFF) + int(p.n)) + x[gid];  // report: signed integer overflow",
    "cast": "    y[gid] = float(int(1e20f * float(p.n)));  // report: outside the range of representable values",
    # Written on a stack that other lanes have been switched to and from.
    "after_barrier": f"""    const float sum = simd_sum(x[gid]);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    y[gid + p.n / SIMD_WIDTH] = sum + float(lane);  // report: {OVERFLOW}""",
    "lane_array": """    float one[16] = {x[gid]};
    float two[8] = {x[gid], x[gid], x[gid], x[gid], x[gid], x[gid], x[gid], x[gid]};
    thread float* const any = x[gid] > 2.0f ? one : two;  // the compiler does not know how far it reaches
    any[lane % 8u] = simd_sum(x[gid]);
    y[gid] = any[p.n / 4u];  // report: 'two' <== Memory access at offset 96 overflows this variable""",
    # The controls: no fault; what strict mode refuses, and a frame that reaches farther than the one it left.
    "nowhere": "    y[gid] = x[gid];",
    "divergence": """    float own[64];
    for (uint i = 0u; i < 64u; ++i) {
        own[(i + lane) % 64u] = x[gid];
    }
    if (lane < p.n / 2u) {
        y[gid] = simd_sum(own[lane]);
    }""",
    "nowhere_rows": """    float own[512];
    for (uint i = 0u; i < 512u; ++i) {
        own[(i + lane) % 512u] = x[gid];
    }
    y[gid] = simd_sum(own[p.n]);""",
}
COLLECTIVE = [name for name, body in BROKEN.items() if "simd_" in body]
FAULTS = {f"broken_{name}_f32": body.split("// report: ")[1] for name, body in BROKEN.items() if "// report" in body}
FAULTS |= {MUTANT: OVERFLOW}
HOST = [f"host:{name}" for name in FAULTS if name.removeprefix("broken_").removesuffix("_f32") not in COLLECTIVE]
STRICT = [f"strict:{name}" for name in FAULTS]
CONTROLS = ["host:broken_nowhere_f32", "strict:broken_nowhere_f32", "after:broken_nowhere_rows_f32"]


def broken_shader() -> str:
    """All of them as one shader."""
    text = '#include "common.h"\n#include "params.h"\n'
    for name, body in BROKEN.items():
        lane = ",\n    uint lane [[thread_index_in_simdgroup]])" if "lane" in body else ")"
        text += f"""kernel void broken_{name}_f32(
    device const float* x [[buffer(0)]],  // [n]
    device float* y [[buffer(1)]],        // [n]
    constant BrokenParams& p [[buffer(2)]],
    uint gid [[thread_position_in_grid]]{lane}
{{
{body}
}}
"""
    return text


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """The copy, built once."""
    try:
        tools = toolchain(list(FLAGS))
    except UnavailableError as error:
        pytest.skip(str(error))
    return copy_and_build(tmp_path_factory.mktemp("sanitizers"), tools, ISAS)


@pytest.fixture(scope="module")
def runs(tree: Tree, request: pytest.FixtureRequest) -> dict[str, Run]:
    """The cases that are asked for, two side by side as the tool runs them."""
    called = (getattr(item, "callspec", None) for item in request.session.items)
    asked = {call.params.get("case") for call in called if call is not None}
    wanted = [case for case in CASES if case in asked]
    with ThreadPoolExecutor(2) as pool:
        found = pool.map(functools.partial(run_case, tree), (CASES[case] for case in wanted))
        return dict(zip(wanted, found, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_the_sanitizers_find_nothing(runs: dict[str, Run], case: str) -> None:
    run = runs[case]
    assert run.reports == ""
    assert run.code == 0, run.output


@pytest.fixture(scope="module")
def reports(tree: Tree) -> dict[str, str]:
    """What the sanitizers say of each broken kernel in each mode, and of those that are not."""
    shaders = tree.folder / "broken"
    shutil.copytree(METAL, shaders, ignore=shutil.ignore_patterns("*.metal"))
    params = (shaders / "params.h").read_text()
    end = params.rindex("#endif")
    (shaders / "params.h").write_text(f"{params[:end]}struct BrokenParams {{\n    uint n;\n}};\n{params[end:]}")
    (shaders / "broken.metal").write_text(broken_shader())
    right = (METAL / "occupancy.metal").read_text()
    assert right.count(RIGHT) == 1
    mutant = right.replace(RIGHT, WRONG).replace("kernel void occupancy_", "kernel void mutant_")
    (shaders / "mutant.metal").write_text(mutant)
    library = tree.folder / "libbroken.so"
    build_module(shaders, library, tree.tools, tree.isas[:1])
    run = tree.run("broken", ["-m", "proof.sanitizers.broken", str(library), *HOST, *STRICT, *CONTROLS])
    assert run.code == 0, run.output
    found = {}
    for name, (process, code, said) in json.loads(run.output.splitlines()[-1]).items():
        path = tree.folder / "reports" / "broken" / f"report.{process}"
        found[name] = said + (path.read_text() if path.is_file() else "")
        assert (code == 0) == (found[name] == ""), name
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kernel", [*HOST, *STRICT])
def test_a_fault_is_reported_with_its_line(reports: dict[str, str], kernel: str) -> None:
    words = FAULTS[kernel.split(":")[1]]
    assert words in reports[kernel]
    if MUTANT in kernel:
        assert "mutant.metal:" in reports[kernel]
    else:
        before = broken_shader().partition(f"kernel void {kernel.split(':')[1]}(")
        line = (before[0] + before[2].partition("// report")[0]).count("\n") + 1
        assert f"broken.metal:{line}" in reports[kernel]


@pytest.mark.slow
@pytest.mark.parametrize("kernel", CONTROLS)
def test_a_right_kernel_of_the_same_library_is_not(reports: dict[str, str], kernel: str) -> None:
    assert reports[kernel] == ""


def test_a_compiler_without_sanitizers_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    compiler = tmp_path / "c++"
    compiler.write_text("#!/bin/sh\necho unknown option -fsanitize >&2\nexit 1\n")
    compiler.chmod(0o755)
    for name, words in [
        (str(compiler), rf"needs a compiler with the sanitizers address, {compiler} says: unknown option -fsanitize"),
        ("no-such-compiler", "needs a C++ compiler, found no no-such-compiler; set CXX"),
    ]:
        monkeypatch.setenv("CXX", name)
        assert main(["address"]) == 2
        assert capsys.readouterr().err == f"[sanitizers] {words}\n"


def test_a_failed_build_is_not_something_found(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    try:
        real = toolchain(["undefined"]).compiler
    except UnavailableError as error:
        pytest.skip(str(error))
    compiler = tmp_path / "c++"
    compiler.write_text(f'#!/bin/sh\ncase "$1" in -c) echo no such header >&2; exit 1;; esac\nexec {real} "$@"\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    assert main(["undefined"]) == 2
    first, *rest = capsys.readouterr().err.splitlines()
    assert first.startswith(f"[sanitizers] nothing can be run: {compiler} -c ")
    assert rest == ["no such header"]
