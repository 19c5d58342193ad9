"""The macOS wheel is built here, loads as far as its symbols say, and the checks notice when a wheel is not right."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import nerf_metal
from proof.macos_wheel.__main__ import main
from proof.macos_wheel.build import ROOT
from proof.macos_wheel.check import EXTENSION, check_wheel

pytestmark = [pytest.mark.cross_build, pytest.mark.slow]  # zig's first link builds its runtime: a minute and more
PYTHON = f"cp{sys.version_info.major}{sys.version_info.minor}"
CLAIMS = {"tag", "files", "architecture", "oldest system", "signature", "exports", "shaders", "libraries", "file type"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built and checked once by the command that a developer types."""
    out = tmp_path_factory.mktemp("dist of a wheel")  # spaces in a path are no trouble
    command = [sys.executable, "-m", "proof.macos_wheel", "--out", str(out)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, ""), run.stdout
    wheel, *lines = run.stdout.splitlines()
    assert all(line.startswith("ok ") for line in lines)
    sources = {"from CPython", "from libc++.1.dylib", "from libSystem.B.dylib"}
    assert {line[7:31].strip() for line in lines} == CLAIMS | sources
    return Path(wheel)


def problems(wheel: Path) -> dict[str, str]:
    return {check.name: check.problem for check in check_wheel(wheel) if check.problem is not None}


def rewrite(wheel: Path, folder: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    """A copy whose files went through ``change``; None drops one."""
    copy = folder / wheel.name
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(copy, "w") as new:
        for name in old.namelist():
            if (data := change(name, old.read(name))) is not None:
                new.writestr(name, data)
    return copy


def test_one_command_builds_and_checks_the_wheel(built: Path) -> None:
    assert built.name == f"nerf_metal-{nerf_metal.__version__}-{PYTHON}-{PYTHON}-macosx_14_0_arm64.whl"
    assert problems(built) == {}


def test_a_missing_file_is_noticed_and_fails_the_command(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = rewrite(built, tmp_path, lambda name, data: None if name == "nerf_metal/__main__.py" else data)
    assert main(["--check", str(wrong)]) == 1
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("FAILED"))
    assert line.split()[1] == "files" and line.endswith(": nerf_metal/__main__.py")


def test_a_wrong_tag_is_noticed(built: Path, tmp_path: Path) -> None:
    wrong = shutil.copy(built, tmp_path / built.name.replace("macosx_14_0_arm64", "macosx_13_0_arm64"))
    assert set(problems(Path(wrong))) == {"tag"}


def test_a_shader_that_is_not_the_checkouts_is_noticed(built: Path, tmp_path: Path) -> None:
    def change(name: str, data: bytes) -> bytes:
        return data.replace(b"kernel void composite_forward", b"kernel void composite_FORWARD")

    found = problems(rewrite(built, tmp_path, change))
    assert found == {"shaders": "not embedded whole: composite.metal"}


def test_a_file_that_is_no_wheel_is_one_line(built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = rewrite(built, tmp_path, lambda name, data: None if name == EXTENSION else data)
    for path in (tmp_path / "nothing.whl", Path(__file__), wrong):
        assert main(["--check", str(path)]) == 2
        assert capsys.readouterr().err.startswith(f"[check] {path} must be a wheel of this project")
