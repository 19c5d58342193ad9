"""The double of Metal from Python: its log, its failures, its counts."""

from __future__ import annotations

import ctypes
import json
from pathlib import Path
from typing import Any

from nerf_metal import _C  # type: ignore[attr-defined]


class Double:
    """One of the libraries of ``metal_double/``, loaded."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.library = ctypes.CDLL(self.path)
        self.library.double_log.restype = ctypes.c_char_p
        self.library.double_fail.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p]
        if self.library.double_open(_C.__file__.encode()) != 0:
            raise RuntimeError("the extension must be loaded and export nerf_metal_execute")

    def clear(self) -> None:
        """Forget the log and a failure that has not come."""
        self.library.double_clear()

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
