"""csrc/host/msl.h, word by word, with the build's own flags, in every instruction set: half, exp, arithmetic, scans,
products."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nerf_metal import _C
from tests.kernels.conftest import described
from tests.kernels.libraries import isa_flags

pytestmark = pytest.mark.host_kernels


class _Kernel(ctypes.Structure):
    """HostKernel of csrc/host/host_kernel.h."""

    _fields_ = (("name", ctypes.c_char_p), ("range", ctypes.c_void_p), ("thread", ctypes.c_void_p))


class _Table(ctypes.Structure):
    _fields_ = (("kernels", ctypes.POINTER(_Kernel)), ("count", ctypes.c_ulong))


_RANGE = ctypes.CFUNCTYPE(
    None,
    ctypes.POINTER(ctypes.c_void_p),
    ctypes.c_void_p,
    ctypes.POINTER(ctypes.c_uint),
    ctypes.c_ulong,
    ctypes.c_ulong,
)
Runner = Callable[..., None]


@pytest.fixture(params=[*(name for name in isa_flags() if name in _C.host_isas()), "launched"])
def run(request: pytest.FixtureRequest, kernel_library: Path) -> Runner:
    """Calls a kernel of one instruction set, past the launcher's choice of the best; or launches it, with small results
    flushed."""

    def launch(kernel: str, n: int, *arrays: np.ndarray) -> None:
        _C.launch_host(kernel, [described(a) for a in arrays], struct.pack("I", n), (n, 1, 1), (128, 1, 1), 2)

    if request.param == "launched":
        return launch
    table = _Table.in_dll(ctypes.CDLL(str(kernel_library)), f"nerf_metal_host_kernels_{request.param}_language")
    functions = {table.kernels[i].name.decode(): table.kernels[i].range for i in range(table.count)}

    def call(kernel: str, n: int, *arrays: np.ndarray) -> None:
        addresses = (ctypes.c_void_p * len(arrays))(*(a.ctypes.data for a in arrays))
        params, grid = ctypes.c_uint(n), (ctypes.c_uint * 3)(n, 1, 1)
        _RANGE(functions[kernel])(addresses, ctypes.addressof(params), grid, 0, n)

    return call


def test_every_half_widens_to_its_own_float(run: Runner) -> None:
    halfs = np.arange(65536, dtype=np.uint32).astype(np.uint16).view(np.float16)
    floats = np.zeros(65536, np.float32)
    run("language_widen", 65536, halfs, floats)
    expected = halfs.astype(np.float32)
    nan = np.isnan(expected)
    assert nan.sum() == 2046
    assert np.isnan(floats[nan]).all()
    assert np.array_equal(np.signbit(floats[nan]), np.signbit(halfs[nan]))
    assert np.array_equal(floats[~nan].view(np.uint32), expected[~nan].view(np.uint32))


def narrow(run: Runner, floats: np.ndarray) -> None:
    """Rounded like numpy, bit by bit; a NaN stays one."""
    floats = np.ascontiguousarray(floats, np.float32)
    halfs = np.zeros(floats.size, np.float16)
    run("language_narrow", floats.size, floats, halfs)
    with np.errstate(over="ignore", under="ignore"):
        expected = floats.astype(np.float16)
    nan = np.isnan(floats)
    assert np.isnan(halfs[nan]).all()
    assert np.array_equal(halfs[~nan].view(np.uint16), expected[~nan].view(np.uint16))


def test_every_half_comes_back(run: Runner) -> None:
    narrow(run, np.arange(65536, dtype=np.uint32).astype(np.uint16).view(np.float16).astype(np.float32))


def test_floats_between_halfs_round_to_nearest_even(run: Runner) -> None:
    halfs = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)  # finite, denormals too
    ties = (halfs[:-1] + halfs[1:]) / 2
    beside = [np.nextafter(ties, np.float32(to)) for to in (-np.inf, np.inf)]
    for values in (ties, *beside):
        narrow(run, np.concatenate([values, -values]))


def test_halfs_at_the_edges(run: Runner) -> None:
    edges = [65504, 65519.996, 65520, 65536, 1e38, np.inf, np.nan, 2**-24, 2**-25, 2**-26, 1e-45, 1e-38, 0, 6.1e-5]
    values = np.array(edges, np.float32)
    near = np.concatenate([np.nextafter(values, np.float32(0)), values, np.nextafter(values, np.float32(np.inf))])
    narrow(run, np.concatenate([near, -near]))
    signs = np.array([0x7FC00000, 0xFFC00000, 0x7F800001, 0xFFFFFFFF], np.uint32).view(np.float32)
    narrow(run, signs)


def test_any_bits_narrow_like_numpy(run: Runner) -> None:
    narrow(run, np.random.default_rng(0).integers(0, 2**32, 500_000, dtype=np.uint32).view(np.float32))


def exponentials(run: Runner, x: np.ndarray) -> np.ndarray:
    y = np.zeros_like(x)
    run("language_exp", x.size, x, y)
    return y


def test_exp_is_within_two_ulp(run: Runner) -> None:
    x = np.concatenate(
        [
            np.linspace(-87.3, 88.72, 1_000_001),
            np.linspace(-1, 1, 200_001),
            np.geomspace(1e-30, 1, 10_001),
            -np.geomspace(1e-30, 1, 10_001),
            np.arange(-125, 128) * np.log(2),  # where the power of two changes
        ]
    ).astype(np.float32)
    exact = np.exp(x.astype(np.float64))
    ulp = np.spacing(exact.astype(np.float32)).astype(np.float64)
    assert (np.abs(exponentials(run, x) - exact) / ulp).max() <= 2


def test_exp_below_the_normal_numbers(run: Runner) -> None:
    """Gradual, or 0 where a processor flushes: never off by more than the place of the least denormal."""
    x = np.linspace(-110, -87, 100_001, dtype=np.float32)
    exact = np.exp(x.astype(np.float64))
    y = exponentials(run, x)
    flushed = (y == 0) & (exact < np.finfo(np.float32).tiny)
    assert (np.abs(y - exact)[~flushed] <= 2 * np.spacing(exact[~flushed].astype(np.float32))).all()


def test_exp_of_special_values(run: Runner) -> None:
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e38, -1e38, 88.73, 89, -104, -1000, 1e-45], np.float32)
    expected = np.array([1, 1, np.inf, 0, np.nan, np.inf, 0, np.inf, np.inf, 0, 0, 1], np.float32)
    assert np.array_equal(exponentials(run, x), expected, equal_nan=True)
    negative_nan = np.array([0xFFC00000, 0x7F800001, 0xFF812345], np.uint32).view(np.float32)
    assert np.isnan(exponentials(run, negative_nan)).all()


def test_exp_grows_with_its_argument(run: Runner) -> None:
    x = np.linspace(-104, 89, 1_000_001, dtype=np.float32)
    y = exponentials(run, x).astype(np.float64)
    # Two neighbours may each err by 2 ulp, no more.
    slack = 4 * np.spacing(np.maximum(y[:-1], np.finfo(np.float32).tiny).astype(np.float32)).astype(np.float64)
    finite = np.isfinite(y[1:])
    assert (y[1:][finite] >= (y[:-1] - slack)[finite]).all()


NUMBERS = [0, 1, -1, np.inf, -np.inf, 3.4e38, 0.5, -0.5, 2.5, 8388607.5, -3e9]
DENORMALS = [1e-45, -1e-45]


def check_arithmetic(run: Runner, numbers: list[float]) -> None:
    """min, max, fabs and ceil of these, and the operations on whole numbers."""
    values = np.array(numbers, np.float32)
    a, b = (m.ravel().copy() for m in np.meshgrid(values, values))
    y = np.zeros((4, a.size), np.float32)
    run("language_floats", a.size, a, b, y)
    assert np.array_equal(y, [np.minimum(a, b), np.maximum(a, b), np.abs(a), np.ceil(a)])
    whole = np.array([0, 1, -1, 2**31 - 1, -(2**31), 77], np.int32)
    a, b = (m.ravel().copy() for m in np.meshgrid(whole, whole))
    out = np.zeros((5, a.size), np.int32)
    run("language_integers", a.size, a, b, out)
    ua, ub = a.view(np.uint32), b.view(np.uint32)
    assert np.array_equal(out[:2], [np.minimum(a, b), np.maximum(a, b)])
    upper = (ua.astype(np.uint64) * ub >> np.uint64(32)).astype(np.uint32)
    assert np.array_equal(out[2:].view(np.uint32), [np.minimum(ua, ub), np.maximum(ua, ub), upper])


def test_min_max_fabs_and_ceil(run: Runner) -> None:
    check_arithmetic(run, NUMBERS + DENORMALS)


def test_roots_are_rounded_correctly(run: Runner) -> None:
    bits = np.random.default_rng(1).integers(0, 0x7F800000, 10_000, dtype=np.uint32)
    edges = np.array([0.0, -0.0, 1e-45, 1.1754944e-38, 3.4028235e38, np.inf, np.nan, -1.0], np.float32)
    x = np.concatenate([edges, bits.view(np.float32)])
    y = np.zeros_like(x)
    run("language_sqrt", x.size, x, y)
    with np.errstate(invalid="ignore"):
        expected = np.sqrt(x)
    nan = np.isnan(expected)
    assert nan.sum() == 2 and np.isnan(y[nan]).all()
    assert np.array_equal(y[~nan].view(np.uint32), expected[~nan].view(np.uint32))


def test_fabs_clears_the_sign_of_zero(run: Runner) -> None:
    a, y = np.array([-0.0], np.float32), np.zeros((4, 1), np.float32)
    run("language_floats", 1, a, a, y)
    assert not np.signbit(y[2])


def test_bits(run: Runner) -> None:
    x = np.array([0.0, 1.0, -2.5, np.inf, np.nan, 1e-45], np.float32)
    y = np.zeros_like(x)
    run("language_bits", x.size, x, y)
    assert np.array_equal(y.view(np.uint32), x.view(np.uint32) ^ np.uint32(0x80000001))


def test_scans_are_the_loops_they_stand_for(run: Runner) -> None:
    """Numbers whose products and sums are exact in any order: powers of two, zeros among them, and small integers."""
    random = np.random.default_rng(0)
    scale = random.choice(np.array([0.5, 1, 1, 1, 2, -1, 0], np.float32), (50, 32))
    offset = random.integers(-4, 5, (50, 32)).astype(np.float32)
    products, maps, sums = np.zeros((50, 33), np.float32), np.zeros((50, 33), np.float32), np.zeros(50, np.float32)
    run("language_scans", 50, scale, offset, products, maps, sums)
    before, after = np.full(50, 0.5), np.full(50, 2.0)
    for k in range(32):
        assert np.array_equal(products[:, k], before)
        before = before * scale[:, k]
        last = 31 - k
        assert np.array_equal(maps[:, last], after)
        after = offset[:, last] + scale[:, last] * after
    assert np.array_equal(products[:, 32], before)
    assert np.array_equal(maps[:, 32], after)
    assert np.array_equal(sums, offset.sum(-1))


def test_products_are_the_loops_they_stand_for(run: Runner) -> None:
    """Whole numbers, exact in any order. What lies outside the rows and columns asked for stays as it was."""
    random = np.random.default_rng(0)
    a, b, bias, gate, before = (
        random.integers(-4, 5, shape).astype(np.float32)
        for shape in ((128, 9), (9, 128), (128,), (128, 128), (128, 128))
    )
    rows = [*range(2, 34, 2), 46, 48, 50, 62, 64, 78, 80, 96, 112, 126, 128]
    shapes = np.array([(r, c) for r in rows for c in range(16, 129, 16)], np.int32)
    c = np.broadcast_to(before, (5, len(shapes), 128, 128)).copy()
    run("language_products", len(shapes), a, np.ascontiguousarray(a.T), b, bias, gate, shapes, c)
    product = a @ b
    plain = product + bias
    whole = [plain, np.maximum(plain, 0), np.where(gate > 0, plain, 0), before + product, before + product]
    for got, want in zip(c, whole, strict=True):
        for (r, columns), one in zip(shapes, got, strict=True):
            expected = before.copy()
            expected[:r, :columns] = want[:r, :columns]
            assert np.array_equal(one, expected), (r, columns)
