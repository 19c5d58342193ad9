"""The words of proof/cuda/include, one kernel each, on the emulation and on a GPU: the launcher's own test kernels and
what those tests ask of them."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
import pytest

from proof.cuda import build
from proof.cuda.__main__ import gpu_name
from proof.cuda.libraries import Launcher, build_emulation, copy_test_shaders, launcher_of, nvcc
from tests.kernels import test_language as language
from tests.kernels import test_strict_right as right

pytestmark = [pytest.mark.cuda, pytest.mark.slow]  # with what is compiled for it, a minute


@pytest.fixture(scope="module", params=["emulated", "gpu"])
def launch(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Launcher:
    """Run a test kernel on numpy arrays."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "gpu":
        compiler = nvcc()
        if gpu_name() is None:
            pytest.skip("needs an NVIDIA GPU, found none")
        metal = copy_test_shaders(folder / "metal")
        build.compile_shaders(compiler, folder, metal=metal)
        library = build.link(compiler, folder, metal=metal)
    else:
        library = build_emulation(folder, copy_test_shaders(folder / "metal"))
    return launcher_of(library)


@pytest.fixture
def run(launch: Launcher) -> Launcher:
    """As test_language.py runs kernels."""

    def launched(kernel: str, n: int, *arrays: np.ndarray) -> None:
        launch(kernel, list(arrays), struct.pack("I", n), (n, 1, 1))

    return launched


@pytest.mark.parametrize(
    "check",
    [
        language.test_every_half_comes_back,
        language.test_floats_between_halfs_round_to_nearest_even,
        language.test_halfs_at_the_edges,
        language.test_any_bits_narrow_like_numpy,
        language.test_bits,
        language.test_scans_are_the_loops_they_stand_for,
        language.test_products_are_the_loops_they_stand_for,
    ],
)
def test_words(run: Launcher, check: Callable[[Launcher], None]) -> None:
    check(run)


def test_arithmetic(run: Launcher) -> None:
    language.check_arithmetic(run, language.NUMBERS)  # not below the normal numbers, which are flushed


@pytest.mark.parametrize("n", [32, 128, 160, 512])
def test_reduction(launch: Launcher, n: int) -> None:
    right.test_reduction_over_simd_groups(launch, n, "", 0)


def test_barriers(launch: Launcher) -> None:
    right.test_tree_and_rotation(launch, "", 0)
    right.test_simdgroup_barrier(launch, 96, "", 0)


@pytest.mark.parametrize("operand", [0, 1, 31])
def test_simd_functions(launch: Launcher, operand: int) -> None:
    n = 160
    x, y = right.values(n), np.zeros((6, n), np.float32)
    launch("right_simd_f32", [x, y], struct.pack("2I", n, operand), (n, 1, 1))
    rows, y = x.reshape(-1, 32).astype(np.float64), y.reshape(6, -1, 32)
    expected = [rows.sum(1, keepdims=True), rows.prod(1, keepdims=True), rows.cumsum(1) - rows, rows.cumprod(1) / rows]
    for got, wanted in zip(y, expected, strict=False):
        np.testing.assert_allclose(got, np.broadcast_to(wanted, got.shape), rtol=1e-5, atol=1e-5)
    kept = 32 - operand  # beyond the last lane Metal leaves it undefined
    assert np.array_equal(y[4][:, :kept], rows[:, operand:].astype(np.float32))
    assert (y[5] == rows[:, operand : operand + 1].astype(np.float32)).all()


@pytest.mark.parametrize(("size", "group"), [((96, 3, 1), (64, 2, 1)), ((32, 3, 5), (32, 2, 2))])
def test_thread_places(launch: Launcher, size: tuple[int, ...], group: tuple[int, ...]) -> None:
    right.test_thread_places(launch, size, group, "", 0)


def test_more_groups_along_y_than_cuda_takes(launch: Launcher) -> None:
    ny = 70_000
    out = np.full((ny, 1, 2), -1, np.int32)
    launch("language_plane", [out], struct.pack("3I", 1, ny, 1), (1, ny, 1), (1, 1, 1))
    assert np.array_equal(out[:, 0, 1], np.arange(ny))


def test_matrices(launch: Launcher) -> None:
    right.test_all_threadgroup_memory_may_be_used(launch)
    right.test_product_through_threadgroup_memory(launch, 40, 24, 16, "", 0)
    right.test_matrix_functions(launch, "", 0)
    right.test_products_are_summed_in_order(launch)


def test_atomics(launch: Launcher) -> None:
    n = 4096
    sums, before, ones = np.zeros(2, np.int32), np.zeros(n, np.int32), np.zeros(1, np.int32)
    total = np.zeros(1, np.float32)
    launch("language_atomics", [sums, total, before, ones], struct.pack("I", n), (n, 1, 1))
    assert sums.tolist() == [n * (n - 1) // 2, n - 1]
    assert total[0] == n * (n - 1) // 2  # below 2^24: exact in any order
    assert np.array_equal(np.sort(before), np.arange(n))


def test_buffers_that_overlap_share_memory(launch: Launcher) -> None:
    n = 64
    sums = np.zeros(2, np.int32)
    launch(
        "language_atomics",
        [sums, np.zeros(1, np.float32), np.zeros(n, np.int32), sums[:1]],
        struct.pack("I", n),
        (n, 1, 1),
    )
    assert sums.tolist() == [n * (n - 1) // 2 + n, n - 1]
    squares = np.arange(n, dtype=np.float32) ** 2
    launch("language_sqrt", [squares, squares], struct.pack("I", n), (n, 1, 1))
    assert np.array_equal(squares, np.arange(n))


def test_a_kernel_that_is_not_there_is_an_error(launch: Launcher) -> None:
    with pytest.raises(RuntimeError, match="built from other shaders"):
        launch("language_nothing", [], b"", (1, 1, 1))
