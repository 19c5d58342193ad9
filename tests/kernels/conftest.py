"""Fixtures of the launcher's tests: libraries compiled once, the double of Metal, launches on numpy arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from nerf_metal import _C, kernels
from tests.kernels.double import Double, doubles, on_double
from tests.kernels.libraries import build_kernels, load_modules

CODES = {"float32": 0, "float16": 1, "int32": 2, "uint32": 3, "uint8": 4}
Launcher = Callable[..., None]


def described(array: np.ndarray | None) -> tuple[int, int, int] | None:
    """An array as the extension takes buffers: address, elements, type."""
    return None if array is None else (array.ctypes.data, array.size, CODES[array.dtype.name])


@pytest.fixture(scope="session")
def kernel_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library of tests/kernels/shaders, loaded beside the extension's own kernels."""
    path = build_kernels(tmp_path_factory.mktemp("kernels"))
    load_modules(path)
    return path


@pytest.fixture
def metal() -> Iterator[Double]:
    """The metal backend on the ``public`` double; a tensor handle that a test loses fails it."""
    with on_double() as double:
        yield double


@pytest.fixture
def metal_method() -> Iterator[Double]:
    """The metal backend on the double of torch 2.10 to 2.13, with torch's own handles."""
    double = doubles()["method"]
    with kernels.use_metal_provider(double.path):
        assert kernels.why_not("metal") is None
        double.clear()
        yield double


@pytest.fixture
def strict(kernel_library: Path) -> Launcher:
    """Run a kernel in strict mode on numpy arrays."""

    def run(
        kernel: str,
        arrays: list[np.ndarray],
        params: bytes,
        grid: tuple[int, int, int],
        group: tuple[int, int, int] = (128, 1, 1),
        order: str = "forward",
        seed: int = 0,
    ) -> None:
        _C.launch_strict(kernel, [described(a) for a in arrays], params, grid, group, order, seed)

    return run


@pytest.fixture
def host(kernel_library: Path) -> Launcher:
    """Run a kernel on the host backend on numpy arrays."""

    def run(
        kernel: str,
        arrays: list[np.ndarray],
        params: bytes,
        grid: tuple[int, int, int],
        threads: int = 2,
        long_threads: bool = False,
    ) -> None:
        _C.launch_host(kernel, [described(a) for a in arrays], params, grid, (128, 1, 1), threads, long_threads)

    return run
