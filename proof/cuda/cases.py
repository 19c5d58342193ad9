"""Run the named cases of every op on a library of :mod:`proof.cuda.build`: the metal backend's C++ encodes into the
double of Metal, whose dispatches the library runs."""

from __future__ import annotations

import contextlib
import ctypes
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nerf_metal import kernels
from nerf_metal.selftest.modes import METAL, METAL_PLAIN, Mode
from nerf_metal.selftest.table import OPS, Op
from tests.kernels.libraries import build_doubles


@contextlib.contextmanager
def on_library(library: Path) -> Iterator[None]:
    """Run the metal backend on the library meanwhile."""
    with tempfile.TemporaryDirectory() as folder:
        ctypes.CDLL(str(library))
        double = build_doubles(Path(folder))["public"]
        if ctypes.CDLL(str(double)).double_open(str(library).encode()) != 0:
            raise RuntimeError(f"{library} must export nerf_metal_execute")
        with kernels.use_metal_provider(str(double)):
            if reason := kernels.why_not("metal"):
                raise RuntimeError(reason)
            yield


def named_cases() -> Iterator[tuple[str, Op, Any, Mode]]:
    """Every case of every op, of SIMD-group kernels and of their plain twins, with a name."""
    for op in OPS:
        for mode in (METAL, METAL_PLAIN) if op.twins else (METAL,):
            for case in op.cases:
                yield " ".join(filter(None, (op.name, op.what, case.name, f"({mode.name})"))), op, case, mode


def run_cases(library: Path, every: int = 1) -> tuple[dict[str, float], list[str]]:
    """The worst error over tolerance by kernel, and what failed; of every so many cases the first."""
    worst: dict[str, float] = {}
    failures = []
    with on_library(library):
        for name, op, case, mode in list(named_cases())[::every]:
            with kernels.record_launches() as launched:
                try:
                    error = max(op.compare(case, op.run(case, mode)).values(), default=0.0)
                except (AssertionError, RuntimeError) as failure:
                    # Outside of pytest an assertion without words has none.
                    at = traceback.extract_tb(failure.__traceback__)[-1]
                    failures.append(f"{name}: {str(failure).partition(chr(10))[0] or at.line}")
                    continue
            worst |= {kernel: max(worst.get(kernel, 0.0), error) for kernel in launched.ran}
    return worst, failures
