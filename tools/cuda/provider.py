"""The metal backend on CUDA: its C++ encodes into the double of Metal, whose dispatches run on an NVIDIA GPU."""

from __future__ import annotations

import contextlib
import ctypes
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nerf_metal import kernels
from tests.kernels.double import Double
from tests.ops.modes import Mode


@dataclass(frozen=True)
class CudaMode(Mode):
    """The metal backend's kernels and arguments; tensors are the CPU's, as the double takes them."""

    @property
    def device(self) -> str:
        return "cpu"


CUDA = CudaMode("cuda", backend="metal")


class Executor:
    """A library of tools/cuda, loaded: what it ran and for how long."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.library = ctypes.CDLL(self.path)
        self.library.nerf_cuda_log.restype = ctypes.c_char_p

    def take_log(self) -> list[dict[str, Any]]:
        """``kernel``, ``milliseconds`` and ``bytes`` of every launch since the last call."""
        lines = self.library.nerf_cuda_log().decode().splitlines()
        self.library.nerf_cuda_clear()
        return [json.loads(line) for line in lines]

    def ceilings(self) -> tuple[float, float]:
        """Bytes a second of a copy, and float32 operations a second of multiply-adds."""
        found = ctypes.c_double(), ctypes.c_double()
        code = self.library.nerf_cuda_ceilings(*map(ctypes.byref, found))
        if code != 0:
            raise RuntimeError(f"[ceilings] CUDA must run a copy and multiply-adds, got its error {code}")
        return found[0].value, found[1].value


@contextlib.contextmanager
def on_cuda(double: Path, library: Path) -> Iterator[Executor]:
    """Run the metal backend on ``library`` meanwhile; ``double`` is one of tests/kernels/metal_double."""
    executor = Executor(library)
    with kernels.use_metal_provider(Double(double, executor.path).path):
        reason = kernels.why_not("metal")
        if reason is not None:
            raise RuntimeError(reason)
        yield executor
