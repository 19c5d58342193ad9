"""What is compiled for Apple's processors runs on an emulated one: the same clang, flags and processor, on Linux."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from proof.macos_wheel.build import zig
from tests.kernels import test_fiber as fiber
from tests.kernels.libraries import ROOT, build_kernels, generator, kernel_commands, run_all

STRICT = ("fiber", "strict", "strict_memory", "strict_simd")
pytestmark = [pytest.mark.cross_build, pytest.mark.slow]  # zig's first link builds its libc++: minutes
SOURCES = ("host/host", "launcher/launch", "launcher/module", *(f"strict/{name}" for name in STRICT))  # of csrc


def emulator() -> str:
    """The program that runs arm64 Linux programs, or the test is skipped."""
    found = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
    if found is None:
        pytest.skip("needs qemu-aarch64 (qemu-user) to run arm64 programs, found none")
    return found


@pytest.fixture
def compiler(tmp_path: Path) -> str:
    """clang for the oldest of Apple's processors, which zig's and Apple's compile for when nothing else is said."""
    path = tmp_path / "c++"
    path.write_text(f'#!/bin/sh\nexec {shlex.quote(str(zig()))} c++ --target=aarch64-linux-musl -mcpu=apple_m1 "$@"\n')
    path.chmod(0o755)
    return str(path)


def test_the_strict_executor_runs(compiler: str, tmp_path: Path) -> None:
    """clang's registers are not g++'s, with which ``tests/kernels/test_fiber.py`` does the same."""
    runner = emulator()
    (tmp_path / "kernels").mkdir()
    program = fiber.build(tmp_path, build_kernels(tmp_path / "kernels").parent, compiler)
    run = subprocess.run([runner, str(program)], capture_output=True, text=True, check=True)
    fiber.test_on_this_processor(run.stdout)


def test_every_named_case_is_within_its_tolerances(compiler: str, tmp_path: Path) -> None:
    runner = emulator()
    generator().main(ROOT / "metal", tmp_path)
    command = [compiler, "-std=c++17", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function"]
    command += [f"-I{path}" for path in (ROOT / "csrc", ROOT / "metal", tmp_path)]
    flags = re.findall(r"set\(KERNEL_FLAGS ([^)]*)\)", (ROOT / "CMakeLists.txt").read_text(encoding="utf-8"))[0].split()
    built = ["-O2", "-DNERF_METAL_ISAS=X(baseline)"]
    sources = {name.replace("/", "_"): [*built, f"{ROOT}/csrc/{name}.cpp"] for name in SOURCES}
    sources["program"] = ["-O2", str(Path(__file__).parent / "launches_program.cpp")]
    sources |= kernel_commands(tmp_path, {"baseline": flags, "strict": ["-O1", "-DNERF_METAL_STRICT=1"]})
    run_all([[*command, "-c", *source, "-o", f"{tmp_path}/{name}.o"] for name, source in sources.items()])
    program = tmp_path / "program"
    run_all([[compiler, "-static", *(f"{tmp_path}/{name}.o" for name in sources), "-o", str(program)]])
    run = subprocess.run(
        [sys.executable, "-W", "error", "-m", "proof.macos_wheel.arm64", runner, "-cpu", "max", str(program)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    said = json.loads(run.stdout.splitlines()[-1])
    assert said["isa"] == "arm64"
    assert said["cases"] > 300
    assert int(run.stdout.splitlines()[0].split()[0]) > said["cases"]  # launches that went there
    assert 0.0 < said["worst"] <= 1.0
