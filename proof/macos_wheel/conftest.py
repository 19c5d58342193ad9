"""The wheel, built once by the command that a developer types."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from proof.macos_wheel.build import ROOT


@dataclass(frozen=True)
class Built:
    """What the command printed, and the wheel that it named."""

    code: int
    printed: list[str]
    errors: str
    wheel: Path


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    out = tmp_path_factory.mktemp("dist of a wheel")  # spaces in a path are no trouble
    command = [sys.executable, "-m", "proof.macos_wheel", "--out", str(out)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    lines = run.stdout.splitlines()
    return Built(run.returncode, lines, run.stderr, Path(lines[0]) if lines else out)
