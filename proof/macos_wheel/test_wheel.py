"""The macOS wheel is built here, loads as far as its symbols say, and the checks notice when a wheel is not right."""

from __future__ import annotations

import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import nerf_metal
from proof.macos_wheel.__main__ import main
from proof.macos_wheel.check import EXTENSION, Check, check_extension, check_wheel
from proof.macos_wheel.conftest import Built

pytestmark = [pytest.mark.cross_build, pytest.mark.slow]  # zig's first link builds its runtime: a minute and more
PYTHON = f"cp{sys.version_info.major}{sys.version_info.minor}"


def problems(checks: list[Check]) -> dict[str, str]:
    return {check.name: check.problem for check in checks if check.problem is not None}


def test_one_command_builds_and_checks_the_wheel(built: Built) -> None:
    assert built.code == 0, built.errors
    assert built.errors == ""
    assert built.wheel.name == f"nerf_metal-{nerf_metal.__version__}-{PYTHON}-{PYTHON}-macosx_14_0_arm64.whl"
    assert built.wheel.is_file()
    claims = {line[7:31].strip() for line in built.printed[1:]}
    assert all(line.startswith("ok ") for line in built.printed[1:])
    assert claims >= {"tag", "RECORD", "architecture", "oldest system", "from CPython", "from libc++.1.dylib"}
    assert claims >= {"from libSystem.B.dylib", "exports", "signature", "shaders", "machine code"}


def rewrite(wheel: Path, folder: Path, change: Callable[[str, bytes], tuple[str, bytes] | None]) -> Path:
    """A copy whose entries went through ``change``; None drops one."""
    copy = folder / wheel.name
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(copy, "w") as new:
        for name in old.namelist():
            entry = change(name, old.read(name))
            if entry is not None:
                new.writestr(*entry)
    return copy


def test_a_missing_python_file_is_noticed(built: Built, tmp_path: Path) -> None:
    wrong = rewrite(built.wheel, tmp_path, lambda name, data: None if name == "nerf_metal/train.py" else (name, data))
    found = problems(check_wheel(wrong))
    assert set(found) == {"Python files", "RECORD"}
    assert found["Python files"] == "differ from the checkout's: nerf_metal/train.py"


def test_an_altered_file_is_noticed(built: Built, tmp_path: Path) -> None:
    wrong = rewrite(
        built.wheel, tmp_path, lambda name, data: (name, data + b"\n" if name == "nerf_metal/train.py" else data)
    )
    assert problems(check_wheel(wrong)) == {"RECORD": "nerf_metal/train.py is not what RECORD says"}


def test_another_systems_object_is_noticed(built: Built, tmp_path: Path) -> None:
    def add(name: str, data: bytes) -> tuple[str, bytes]:
        return (name, data) if name != "nerf_metal/train.py" else (name, b"\x7fELF" + data)

    assert problems(check_wheel(rewrite(built.wheel, tmp_path, add)))["machine code"].endswith("nerf_metal/train.py")


def test_a_wrong_tag_is_noticed(built: Built, tmp_path: Path) -> None:
    wrong = shutil.copy(built.wheel, tmp_path / built.wheel.name.replace("macosx_14_0_arm64", "macosx_13_0_arm64"))
    assert set(problems(check_wheel(Path(wrong)))) == {"tag"}


def test_a_lost_dependency_is_noticed(built: Built, tmp_path: Path) -> None:
    wrong = rewrite(
        built.wheel, tmp_path, lambda name, data: (name, data.replace(b"Requires-Dist: torch>=2.10\n", b""))
    )
    assert "METADATA" in problems(check_wheel(wrong))


@pytest.mark.parametrize("place", [b"PyInit__C", b"kernel void composite_forward"])
def test_an_altered_extension_is_noticed(built: Built, tmp_path: Path, place: bytes) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        path = Path(wheel.extract(EXTENSION, tmp_path))
    assert problems(list(check_extension(path))) == {}
    data = bytearray(path.read_bytes())
    assert place in data
    data[data.index(place)] ^= 1
    path.write_bytes(data)
    found = problems(list(check_extension(path)))
    assert "is not what was signed" in found["signature"]
    assert ("shaders" in found) == place.startswith(b"kernel")


def test_a_file_that_is_no_wheel_is_one_line(built: Built, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (tmp_path / "nothing.whl", Path(__file__)):
        assert main(["--check", str(path)]) == 2
        assert capsys.readouterr().err.startswith(f"[check] {path} must be a wheel of this project")
    wrong = rewrite(built.wheel, tmp_path, lambda name, data: None if name == EXTENSION else (name, data))
    assert main(["--check", str(wrong)]) == 2
    assert EXTENSION in capsys.readouterr().err


def test_a_failed_check_fails_the_command(built: Built, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = rewrite(built.wheel, tmp_path, lambda name, data: None if name.endswith("doctor.py") else (name, data))
    assert main(["--check", str(wrong)]) == 1
    assert "FAILED Python files" in capsys.readouterr().out
