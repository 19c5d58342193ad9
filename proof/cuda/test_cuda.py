"""The shaders as CUDA: nvcc takes all of them, and what it takes gives the references' numbers, on a GPU where there
is one and emulated everywhere."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
from pathlib import Path

import pytest
import torch

from nerf_metal import ops
from nerf_metal.kernels import signature
from proof.cuda import __main__ as tool
from proof.cuda import build, cases, report, source, speed
from proof.cuda.conftest import Compiled
from proof.cuda.libraries import build_emulation
from proof.cuda.provider import on_cuda
from tests.kernels.launches import KERNELS

pytestmark = [pytest.mark.cuda, pytest.mark.slow]  # with what is compiled for it, a minute
# What Metal runs in another form.
TWINS = {name for name in KERNELS if f"{name[:-4]}_simd{name[-4:]}" in KERNELS}
TWINS |= {"mlp_backward_f32", "hashgrid_backward_levels_f32"}
FEW = 512  # samples, of which the MLP takes an eighth: each of its shuffles is 32 switches of stacks


# ---- what nvcc takes ----
def test_every_kernel_is_compiled_and_has_an_entry(compiled: Compiled) -> None:
    names = [line.split()[0] for line in compiled.said[1:-1]]
    assert names == sorted(KERNELS)
    assert compiled.said[-1] == "nothing was run: as asked"
    text = "".join(path.read_text() for path in compiled.folder.glob("*.cu"))
    assert set(re.findall(r'extern "C" int nerf_cuda_(\w+)\(', text)) == set(KERNELS)


def test_simd_group_kernels_stay_in_registers_and_in_threadgroup_memory(compiled: Compiled) -> None:
    """On Metal a matrix that has no register has no place at all, and a threadgroup has 32 KB."""
    for line in compiled.said[1:-1]:
        name, *numbers = line.split()
        registers, stack, spilled, shared = map(int, numbers)
        if KERNELS[name].collective:
            assert (stack, spilled) == (0, 0), line
        assert 0 < registers <= 255 and shared <= 32768, line
    assert any(line.endswith(" 16384") for line in compiled.said)


def test_nvccs_own_words_for_a_shader_that_it_refuses(compiled: Compiled, tmp_path: Path) -> None:
    for path in build.METAL.glob("[!.]*"):
        if path.suffix == ".h" or path.stem == "sh":
            text = path.read_text().replace("const float x = directions", "const float x = dimensions")
            (tmp_path / path.name).write_text(text)
    with pytest.raises(build.CompileError, match=r'sh\.metal.*identifier "dimensions" is undefined'):
        build.compile_shaders("nvcc", tmp_path / "build", metal=tmp_path)


def test_without_a_gpu_a_launch_says_so(compiled: Compiled, double: Path) -> None:
    if tool.gpu_name() is not None:
        pytest.skip("needs a machine without an NVIDIA GPU")
    with on_cuda(double, compiled.library), pytest.raises(RuntimeError, match="cuda: cudaMalloc: "):
        ops.spherical_harmonics(torch.rand(3, 3), backend="metal")


# ---- what is compiled ----
def test_an_entry_hands_over_every_argument_in_the_kernels_order() -> None:
    (kernel,) = signature.parse_kernels(
        "some",
        "kernel void some_f16(\n"
        "    device const half* a [[buffer(0)]],  // [n]\n"
        "    device atomic_uint* b [[buffer(1)]],  // [n]\n"
        "    constant SomeParams& p [[buffer(2)]],\n"
        "    uint2 gid [[thread_position_in_grid]],\n"
        "    uint lane [[thread_index_in_simdgroup]])\n"
        "{\n}\n",
    )
    text = " ".join("\n".join(source.entry(kernel)).split())
    parameters = "const half* a0, atomic_uint* a1, const __grid_constant__ SomeParams p, const dim3 grid"
    assert f"void some_f16_grid({parameters})" in text
    assert "some_f16(a0, a1, p, uint2(ids.position_in_grid.x, ids.position_in_grid.y), ids.lane);" in text
    arguments = "static_cast<const half*>(buffers[0]), static_cast<atomic_uint*>(buffers[1])"
    assert f"launch(some_f16_grid, grid, group, {arguments}, *static_cast<const SomeParams*>(params));" in text


def test_usage_is_read_kernel_by_kernel() -> None:
    text = (
        "ptxas info    : Compiling entry function 'b_f32_grid' for 'sm_90'\n"
        "ptxas info    : Function properties for b_f32_grid\n"
        "    1952 bytes stack frame, 616 bytes spill stores, 628 bytes spill loads\n"
        "ptxas info    : Used 255 registers, used 0 barriers, 1952 bytes cumulative stack size\n"
        "ptxas info    : Compiling entry function 'a_f32_grid' for 'sm_90'\n"
        "ptxas info    : Function properties for a_f32_grid\n"
        "    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n"
        "ptxas info    : Used 80 registers, used 1 barriers, 16384 bytes smem\n"
    )
    assert build.usages(text) == [
        build.Usage("a_f32", 80, 0, 0, 0, 16384),
        build.Usage("b_f32", 255, 1952, 616, 628, 0),
    ]


@pytest.mark.parametrize("said", ["", "ptxas info: Used 8 registers in sh_forward_f32_grid"])
def test_an_assembler_that_says_something_else_is_refused(said: str, tmp_path: Path) -> None:
    compiler = tmp_path / "nvcc"
    compiler.write_text(f"#!/bin/sh\necho '{said}'\n")
    compiler.chmod(0o755)
    with pytest.raises(build.CompileError, match=r"ptxas must say .*, got none of adam_\w+, .*, sh_forward_f32,"):
        build.compile_shaders(str(compiler), tmp_path / "build")


# ---- what it computes ----
def run_cases(library: Path, capfd: pytest.CaptureFixture[str]) -> dict[str, dict[str, float]]:
    code = cases.main([str(library)])
    said = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert (code, said["failures"]) == (0, [])
    assert set(said["kernels"]) == set(KERNELS)
    assert all(kernel["cases"] > 0 and kernel["worst"] <= 1.0 for kernel in said["kernels"].values())
    return said["kernels"]


def test_every_named_case_emulated(emulated: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found = run_cases(emulated, capfd)
    assert found["mlp_backward_rows_simd_f32"]["cases"] > 40 and found["mlp_backward_rows_simd_f32"]["worst"] > 0.1


def test_every_named_case_on_a_gpu(compiled: Compiled, capfd: pytest.CaptureFixture[str]) -> None:
    if tool.gpu_name() is None:
        pytest.skip("needs an NVIDIA GPU, found none")
    run_cases(compiled.library, capfd)


@pytest.mark.parametrize(
    ("file", "right", "wrong"),
    [
        ("composite_simd.h", "carry * simd_prefix_exclusive_product(a.keep)", "carry * simd_product(a.keep)"),
        ("mlp_simd.h", "    simdgroup_barrier(mem_flags::mem_threadgroup);\n", ""),
        ("mlp_simd.h", "if (first >= p.n_rows) {", "if (first >= p.n_rows || lane == 31u) {"),
    ],
    ids=["another function", "no barriers", "a lane that leaves"],
)
def test_a_wrong_kernel_fails(
    file: str, right: str, wrong: str, tmp_path: Path, double: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    family = file.split("_")[0]
    metal = tmp_path / "metal"
    metal.mkdir()
    for path in build.METAL.glob("[!.]*"):
        if path.suffix == ".h" or path.stem == family:
            text = path.read_text()
            assert path.name != file or right in text
            (metal / path.name).write_text(text.replace(right, wrong) if path.name == file else text)
    library = build_emulation(tmp_path, metal)
    shutil.copy(double, tmp_path)
    assert cases.main([str(library), "--every", "9"]) == 1
    failures = json.loads(capfd.readouterr().out.splitlines()[-1])["failures"]
    # the others' kernels are not in this library
    of_family = [line for line in failures if line.startswith(f"{family} ")]
    assert len(of_family) > 2 and not any("other shaders" in line for line in of_family)


# ---- what is measured and written ----
def test_every_kernel_that_metal_runs_is_measured(emulated: Path, double: Path) -> None:
    with on_cuda(double, emulated) as executor:
        found = speed.measure(executor, (1e9, 1e9), FEW)
    assert set(found) == set(KERNELS) - TWINS
    assert all(s.nanoseconds_per_sample > 0 and s.fraction > 0 for s in found.values())
    counted = {name for name, s in found.items() if s.of == "multiply-add"}
    assert counted == {name for name in found if re.match("mlp_.*_simd", name)}


RACE = """
========= Error: Race reported between Write access at mlp_forward_simd_f32_grid(const float *)+0x2d0
=========     and Read access at mlp_forward_simd_f32_grid(const float *)+0x310 [16 hazards]
========= RACECHECK SUMMARY: 1 hazard displayed (1 error, 0 warnings)
"""


def test_a_sanitizer_watches_the_cases(emulated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "compute-sanitizer"
    script.write_text(f"""#!/bin/sh
[ "$1 $2 $3" = "--tool racecheck --log-file" ] || exit 9
echo '{RACE}' > "$4"
shift 4
exec "$@"
""")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(tool, "SANITIZED", 29)
    found = tool.sanitize("racecheck", emulated, tmp_path / "log")
    assert {k: n for k, n in found.items() if n} == {"mlp_forward_simd_f32": 2}
    assert "composite_forward_simd_f32" in found and "mlp_backward_weights_simd_f32" in found


def test_cases_that_hang_are_ended_with_what_runs_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ears = tmp_path / "ears"
    os.mkfifo(ears)
    script = tmp_path / "compute-sanitizer"
    script.write_text(f"#!/bin/sh\nsleep 600 > {ears} &\nwait\n")
    script.chmod(0o755)
    monkeypatch.setattr(tool, "PATIENCE", 2.0)  # seconds, in which a shell starts
    listening = os.open(ears, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(RuntimeError, match=r"\Athe named cases must end within 2 s, .*compute-sanitizer .*\Z"):
            tool.run_cases(tmp_path / "any.so", under=[str(script)])
        assert select.select([listening], [], [], 60)[0]  # nobody is left who could write
    finally:
        os.close(listening)


def test_a_sanitizer_that_fails_is_no_clean_result(tmp_path: Path) -> None:
    log = tmp_path / "log"
    kernels = ["mlp_forward_f32", "mlp_forward_simd_f32"]
    for text, reason in (
        ("========= Program hit cudaErrorUnknown\n========= ERROR SUMMARY: 3 errors\n", "3 errors of no kernel"),
        ("========= COMPUTE-SANITIZER\n", "did not come to its end"),
    ):
        log.write_text(text)
        with pytest.raises(RuntimeError, match=reason):
            tool.lines_about(kernels, log)
    log.write_text("========= ERROR SUMMARY: 0 errors\n")
    assert tool.lines_about(kernels, log) == dict.fromkeys(kernels, 0)


def test_the_table_says_what_was_not_done() -> None:
    run = report.Run(
        gpu="Some GPU",
        usages=[build.Usage("a_f32", 32, 0, 0, 0, 0), build.Usage("b_simd_f32", 80, 0, 0, 0, 1024)],
        cases={"a_f32": {"cases": 3, "worst": 0.51}, "b_simd_f32": {"cases": 2, "worst": 0.0}},
        hazards={
            "memcheck": {"a_f32": 0},
            "racecheck": {"a_f32": 0, "b_simd_f32": 4},
            "synccheck": {"a_f32": 0, "b_simd_f32": 1},
        },
        ceilings=(3e12, 6e13),
        speeds={"b_simd_f32": speed.Speed(0.0123, 0.456, "copy")},
    )
    text = report.markdown(run)
    assert "Some GPU: a copy moves 3000 GB/s, multiply-adds make 60.0 TFLOP/s." in text
    assert text.splitlines()[-2:] == [
        "| a_f32 | 3 | 0.51 | clean | no shared memory | clean | not timed |  |",
        "| b_simd_f32 | 2 | 0 | not run | 4 lines | 1 lines | 0.0123 | 46% copy |",
    ]


# ---- the command ----
@pytest.mark.parametrize(
    ("arguments", "said"), [([], "nvcc must be on PATH"), (["--arch", "90"], "--arch must be like sm_90, got 90")]
)
def test_what_is_missing_or_wrong_is_said_in_one_line(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert tool.main(arguments) == 2
    out, error = capsys.readouterr()
    assert (out, error.count("\n")) == ("", 1) and said in error
