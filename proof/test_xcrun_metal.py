"""The tool that calls Apple's compiler, with a stand-in for it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHADERS = sorted(path.name for path in (ROOT / "metal").glob("*.metal"))


def run(path: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "proof.xcrun_metal"]
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False
    )


def stand_in(folder: Path, body: str) -> str:
    script = folder / "xcrun"
    script.write_text(f"#!/bin/sh\n{body}\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return f"{folder}:/usr/bin:/bin"


def test_every_shader_is_compiled_as_one_string(tmp_path: Path) -> None:
    # The stand-in fails on an include of ours, as the text that torch is given has none.
    path = stand_in(
        tmp_path, f'echo "$@" >> {tmp_path}/calls; for x; do case $x in *.metal) ! grep \'#include "\' $x;; esac; done'
    )
    done = run(path)
    assert done.returncode == 0, done.stdout
    assert [line.split() for line in done.stdout.splitlines()] == [["ok", name] for name in SHADERS]
    calls = (tmp_path / "calls").read_text().splitlines()[1:]  # the first asks for the version
    assert len(calls) == len(SHADERS)
    assert all(call.startswith("-sdk macosx metal -std=metal3.1 ") and "-Werror" in call for call in calls)


def test_what_does_not_compile_is_shown(tmp_path: Path) -> None:
    path = stand_in(tmp_path, 'case "$*" in *mlp.metal*) echo "mlp.metal:3: error: no" >&2; exit 1;; esac')
    done = run(path)
    assert done.returncode == 1
    assert "FAILED  mlp.metal\nmlp.metal:3: error: no\n" in done.stdout
    assert done.stdout.count("ok ") == len(SHADERS) - 1


def test_without_the_compiler_a_word(tmp_path: Path) -> None:
    assert run(stand_in(tmp_path, "exit 1")).stdout.startswith("[xcrun_metal] nothing compiled: xcrun finds no metal")
    (tmp_path / "xcrun").unlink()
    done = run(f"{tmp_path}")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "[xcrun_metal] nothing compiled: xcrun is not here: it comes with Xcode, on macOS alone\n"
