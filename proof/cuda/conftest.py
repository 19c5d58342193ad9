"""Everything is compiled once: by nvcc where there is one, and for the emulation."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from proof.cuda import build
from proof.cuda.cases import double_beside
from proof.cuda.libraries import build_emulation, nvcc


@dataclass(frozen=True)
class Compiled:
    """What ``python -m proof.cuda --compile-only`` left and said."""

    folder: Path
    said: list[str]

    @property
    def library(self) -> Path:
        return self.folder / "libnerf_metal_cuda.so"


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """Half a minute of two processors."""
    nvcc()
    folder = tmp_path_factory.mktemp("cuda")
    command = [sys.executable, "-m", "proof.cuda", "--compile-only", "--build", str(folder)]
    done = subprocess.run(command, cwd=build.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return Compiled(folder, done.stdout.splitlines())


@pytest.fixture(scope="session")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package's shaders, emulated."""
    return build_emulation(tmp_path_factory.mktemp("emulated"))


@pytest.fixture(scope="session")
def double(emulated: Path) -> Path:
    """The double of Metal, which dispatches into one of these libraries."""
    return double_beside(emulated)
