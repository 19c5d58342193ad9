"""The shaders as CUDA: nvcc takes all of them, and what it takes gives the references' numbers, on a GPU where there
is one and emulated everywhere."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from nerf_metal import ops
from proof.cuda import __main__ as tool
from proof.cuda import build, cases
from tests.kernels.launches import KERNELS

pytestmark = [pytest.mark.cuda, pytest.mark.slow]  # with what is compiled for it, a minute
Compiled = tuple[Path, dict[str, tuple[int, int, int]]]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """By nvcc: half a minute of two processors."""
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("needs nvcc on PATH (the CUDA toolkit), found none")
    return build.compile_shaders(nvcc, tmp_path_factory.mktemp("cuda"))


def emulation(folder: Path, metal: Path = build.METAL) -> Path:
    if build.platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip(f"the emulation needs x86-64, this is {build.platform.machine()}")
    return build.build_emulation(folder, metal)


def check(library: Path) -> dict[str, float]:
    """The named cases, which all succeed and reach every kernel."""
    worst, failures = cases.run_cases(library)
    assert failures == []
    assert set(worst) == set(KERNELS)
    assert max(worst.values()) <= 1.0
    return worst


def test_simd_group_kernels_stay_in_registers_and_in_threadgroup_memory(compiled: Compiled) -> None:
    """On Metal a matrix that has no register has no place at all, and a threadgroup has 32 KB."""
    _, usages = compiled
    assert set(usages) == set(KERNELS)
    for name, (registers, stack, shared) in usages.items():
        assert 0 < registers <= 255 and shared <= 32768, name
        assert stack == 0 or not KERNELS[name].collective, name
    assert max(shared for _, _, shared in usages.values()) == 16384


def test_without_a_gpu_a_launch_says_so(compiled: Compiled) -> None:
    if tool.gpu_name() is not None:
        pytest.skip("needs a machine without an NVIDIA GPU")
    with cases.on_library(compiled[0]), pytest.raises(RuntimeError, match="cuda: cudaMalloc: "):
        ops.spherical_harmonics(torch.rand(3, 3), backend="metal")


def test_every_named_case_emulated(tmp_path: Path) -> None:
    assert check(emulation(tmp_path))["mlp_backward_rows_simd_f32"] > 0.1  # compared, not only run


def test_every_named_case_on_a_gpu(compiled: Compiled) -> None:
    if tool.gpu_name() is None:
        pytest.skip("needs an NVIDIA GPU, found none")
    check(compiled[0])


def test_a_lane_that_leaves_is_noticed(tmp_path: Path) -> None:
    """A GPU would go on with any number; the emulation says who did not come."""
    metal = tmp_path / "metal"
    metal.mkdir()
    for path in (*build.METAL.glob("*.h"), build.METAL / "mlp.metal"):
        text = path.read_text()
        if path.name == "mlp_simd.h":
            assert "if (first >= p.n_rows) {" in text
            text = text.replace("if (first >= p.n_rows) {", "if (first >= p.n_rows || lane == 31u) {")
        (metal / path.name).write_text(text)
    _, failures = cases.run_cases(emulation(tmp_path, metal), every=9)
    said = [failure for failure in failures if failure.startswith("mlp ")]
    assert len(said) > 2 and any("reads from lane 31, which gives none" in failure for failure in said)


def test_a_sanitizer_watches_the_cases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "compute-sanitizer"
    script.write_text(
        '#!/bin/sh\n[ "$1 $2 $3" = "--tool racecheck --log-file" ] || exit 9\n'
        "echo '========= RACECHECK SUMMARY: 3 hazards displayed' > \"$4\"\nshift 4\n"
        'echo "$@" | grep -q " -m proof.cuda --cases any.so$"\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert tool.sanitize("racecheck", Path("any.so"), tmp_path / "log") == 3
    with pytest.raises(RuntimeError, match="must run to their end"):  # the tool itself failed
        tool.sanitize("memcheck", Path("any.so"), tmp_path / "log")
    assert tool.main(["--build", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("[cuda] nvcc must be on PATH; ")
