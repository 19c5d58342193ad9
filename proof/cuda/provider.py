"""The metal backend on CUDA: its C++ encodes into the double of Metal, whose dispatches run on an NVIDIA GPU."""

from __future__ import annotations

import contextlib
import ctypes
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nerf_metal import kernels


class Executor:
    """A library of proof/cuda, loaded: what it ran and for how long."""

    def __init__(self, path: Path) -> None:
        self.library = ctypes.CDLL(str(path))
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
    if ctypes.CDLL(str(double)).double_open(str(library).encode()) != 0:
        raise RuntimeError(f"{library} must export nerf_metal_execute")
    with kernels.use_metal_provider(str(double)):
        reason = kernels.why_not("metal")
        if reason is not None:
            raise RuntimeError(reason)
        yield executor
