"""The double of Metal from Python: its log, its failures, its counts."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nerf_metal import _C, kernels
from tests.kernels.libraries import build_doubles


class Double:
    """One of the libraries of ``metal_double/``, loaded."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.library = ctypes.CDLL(self.path)
        self.library.double_log.restype = ctypes.c_char_p
        self.library.double_fail.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p]
        self.library.double_patience.argtypes = [ctypes.c_double]
        self.library.double_limit.argtypes = [ctypes.c_char_p, ctypes.c_uint64]
        if self.library.double_open(_C.__file__.encode()) != 0:
            raise RuntimeError("the extension must be loaded and export nerf_metal_execute")

    def clear(self) -> None:
        """Forget the log, a failure that has not come, and the limits."""
        self.library.double_clear()

    @contextlib.contextmanager
    def interpreter_held(self, patience: float) -> Iterator[None]:
        """Let another thread hold the interpreter's lock during blocks; one that takes longer has failed."""
        self.library.double_patience(patience)
        try:
            yield
        finally:
            self.library.double_patience(0.0)

    def limit(self, kernel: str, threads: int) -> None:
        """Let the pipeline made of this kernel from now on allow so many threads a threadgroup."""
        self.library.double_limit(kernel.encode(), threads)

    def log(self) -> list[dict[str, Any]]:
        """Every call since the last clear."""
        return [json.loads(line) for line in self.library.double_log().decode().splitlines()]

    def calls(self, name: str) -> list[dict[str, Any]]:
        """The calls of one function."""
        return [entry for entry in self.log() if entry["call"] == name]

    def fail(self, call: str, text: str, time: int = 1) -> None:
        """Let the ``time``-th call of a function from now on fail with this text."""
        self.library.double_fail(call.encode(), time, text.encode())

    def live_handles(self) -> int:
        """Tensor handles made and not freed; of the ``public`` double alone."""
        count = self.library.double_live_handles
        count.restype = ctypes.c_long
        return count()


_folder = tempfile.TemporaryDirectory(prefix="doubles-")  # until the process ends


@functools.cache
def doubles() -> dict[str, Double]:
    """Every double of Metal by name, compiled once."""
    return {name: Double(path) for name, path in build_doubles(Path(_folder.name)).items()}


@contextlib.contextmanager
def on_double() -> Iterator[Double]:
    """The metal backend on the ``public`` double, CPU tensors for MPS ones; a tensor handle lost in the block fails."""
    double = doubles()["public"]
    with kernels.use_metal_provider(double.path):
        assert kernels.why_not("metal") is None
        # Tensor handles from the double too, since it counts them.
        _C.metal_load(double.path, double.path)
        double.library.double_forget_libraries()
        double.clear()
        with double.interpreter_held(60.0):  # no block of a test takes a minute, under sanitizers neither
            yield double
        assert double.live_handles() == 0
