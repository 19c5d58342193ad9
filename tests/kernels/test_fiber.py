"""The stack switch of strict mode, which is written by hand for each processor: here on this one and on an arm64."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.kernels.libraries import HERE, ROOT, compiler, kernel_commands, run_all

pytestmark = pytest.mark.strict
STRICT = ("strict/fiber", "strict/strict", "strict/strict_memory", "strict/strict_simd", "launcher/launch")  # of csrc


def build(folder: Path, generated_by: Path, cxx: str) -> Path:
    """The program of fiber_program.cpp around the executor and the test kernels, linked statically."""
    include = [f"-I{path}" for path in (ROOT / "csrc", generated_by / "metal", generated_by / "generated")]
    command = [cxx, "-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function", *include]
    readings = {"baseline": [], "strict": ["-DNERF_METAL_STRICT=1"]}
    sources = {
        "program": [str(HERE / "fiber_program.cpp")],
        **{name.replace("/", "_"): [str(ROOT / "csrc" / f"{name}.cpp")] for name in STRICT},
        **kernel_commands(generated_by / "generated", readings),
        "module": ["-DNERF_METAL_ISAS=X(baseline)", str(ROOT / "csrc" / "launcher" / "module.cpp")],
    }
    run_all([[*command, "-c", *source, "-o", f"{folder}/{name}.o"] for name, source in sources.items()])
    program = folder / "program"
    # Static: the emulator then needs no libraries of the other processor. dlopen is linked but never called.
    run_all([[cxx, "-static", "-w", *(f"{folder}/{name}.o" for name in sources), "-ldl", "-o", str(program)]])
    return program


@pytest.fixture(scope="module")
def here(kernel_library: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the program prints on this processor."""
    program = build(tmp_path_factory.mktemp("here"), kernel_library.parent, compiler())
    return subprocess.run([str(program)], capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(platform.system() != "Linux", reason="links statically, which Linux can")
def test_on_this_processor(here: str) -> None:
    lines = here.splitlines()
    assert lines[0] == "registers survive"
    assert sum(line.startswith("right_") and line.endswith(" ran") for line in lines) == 18
    assert sum(line.startswith("[wrong_") for line in lines) == 24


@pytest.mark.skipif(platform.system() != "Linux", reason="links statically, which Linux can")
def test_on_an_emulated_arm64(here: str, kernel_library: Path, tmp_path: Path) -> None:
    cxx, emulator = shutil.which("aarch64-linux-gnu-g++"), shutil.which("qemu-aarch64")
    if cxx is None or emulator is None:
        pytest.skip("needs aarch64-linux-gnu-g++ and qemu-aarch64 (g++-aarch64-linux-gnu, qemu-user), found not both")
    program = build(tmp_path, kernel_library.parent, cxx)
    result = subprocess.run([emulator, str(program)], capture_output=True, text=True, check=True)
    assert result.stdout == here
