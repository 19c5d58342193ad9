"""Strict mode carries out SIMD-groups and threadgroups exactly: right kernels give numpy's numbers in every order."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import torch

from nerf_metal import kernels, ops

pytestmark = pytest.mark.strict
ORDERS = [("forward", 0), ("reversed", 0), ("shuffled", 1), ("shuffled", 2), ("shuffled", 3)]


def values(n: int) -> np.ndarray:
    """Numbers whose sums and products are far from 0 and from infinity."""
    return np.random.default_rng(n).uniform(0.5, 1.5, n).astype(np.float32)


@pytest.mark.parametrize(("order", "seed"), ORDERS)
@pytest.mark.parametrize("n", [32, 128, 160, 512])
def test_reduction_over_simd_groups(strict, n, order, seed) -> None:
    x, sums = values(n), np.zeros(n, np.float32)
    strict("right_reduce_f32", [x, sums], struct.pack("I", n), (n, 1, 1), order=order, seed=seed)
    groups = -(-n // 128)
    expected = [x[i * 128 : (i + 1) * 128].astype(np.float64).sum() for i in range(groups)]
    np.testing.assert_allclose(sums[:groups], expected, rtol=1e-6)
    assert not sums[groups:].any()


@pytest.mark.parametrize(("order", "seed"), ORDERS)
def test_tree_and_rotation(strict, order, seed) -> None:
    n = 256
    x, sums, turned = values(n), np.zeros(n, np.float32), np.zeros(n, np.float32)
    strict("right_tree_f32", [x, sums], struct.pack("I", n), (n, 1, 1), order=order, seed=seed)
    np.testing.assert_allclose(sums[:2], x.reshape(2, 128).astype(np.float64).sum(1), rtol=1e-6)
    strict("right_rotate_f32", [x, turned], struct.pack("2I", n, 37), (n, 1, 1), order=order, seed=seed)
    assert np.array_equal(turned.reshape(2, 128), np.roll(x.reshape(2, 128), -74, axis=1))


@pytest.mark.parametrize(("order", "seed"), ORDERS)
@pytest.mark.parametrize("n", [96, 128])
def test_simdgroup_barrier(strict, n, order, seed) -> None:
    x, y = values(n), np.zeros(n, np.float32)
    strict("right_swap_f32", [x, y], struct.pack("I", n), (n, 1, 1), order=order, seed=seed)
    assert np.array_equal(y, x.reshape(-1, 2)[:, ::-1].ravel())


@pytest.mark.parametrize(("order", "seed"), ORDERS)
@pytest.mark.parametrize("operand", [0, 1, 5, 31])
@pytest.mark.parametrize("n", [32, 160])
def test_simd_functions(strict, n, operand, order, seed) -> None:
    x, y = values(n), np.full((6, n), np.nan, np.float32)
    strict("right_simd_f32", [x, y], struct.pack("2I", n, operand), (n, 1, 1), order=order, seed=seed)
    rows = x.reshape(-1, 32).astype(np.float64)
    y = y.reshape(6, -1, 32)
    np.testing.assert_allclose(y[0], np.repeat(rows.sum(1, keepdims=True), 32, 1), rtol=1e-6)
    np.testing.assert_allclose(y[1], np.repeat(rows.prod(1, keepdims=True), 32, 1), rtol=5e-6)
    np.testing.assert_allclose(y[2], rows.cumsum(1) - rows, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(y[3], rows.cumprod(1) / rows, rtol=5e-6)
    kept = 32 - operand
    assert np.array_equal(y[4][:, :kept], rows[:, operand:].astype(np.float32))
    assert np.isnan(y[4][:, kept:]).all()  # what Metal leaves undefined
    assert np.array_equal(y[5], np.repeat(rows[:, operand : operand + 1], 32, 1).astype(np.float32))


def test_broadcast_of_a_lane_that_is_not_there_is_nan(strict) -> None:
    x, y = values(32), np.zeros((6, 32), np.float32)
    strict("right_simd_f32", [x, y], struct.pack("2I", 32, 32), (32, 1, 1))
    assert np.isnan(y[5]).all()


@pytest.mark.parametrize(("order", "seed"), ORDERS)
@pytest.mark.parametrize(
    ("size", "group"),
    [
        ((64, 1, 1), (64, 1, 1)),
        ((96, 3, 1), (64, 2, 1)),  # both axes end in a smaller threadgroup
        ((32, 3, 5), (32, 2, 2)),
        ((64, 2, 3), (32, 2, 3)),
    ],
)
def test_thread_places(strict, size, group, order, seed) -> None:
    out = np.full((*size[::-1], 12), -1, np.int32)
    strict("right_places_u32", [out], struct.pack("3I", *size), size, group, order=order, seed=seed)
    z, y, x = np.meshgrid(*(np.arange(s) for s in size[::-1]), indexing="ij")
    position = np.stack([x, y, z], -1)
    grouped = position // group
    inside = position % group
    extent = np.minimum(group, np.array(size) - grouped * group)  # of this thread's threadgroup
    index = (inside[..., 2] * extent[..., 1] + inside[..., 1]) * extent[..., 0] + inside[..., 0]
    assert np.array_equal(out[..., 0:3], position)
    assert np.array_equal(out[..., 3:6], grouped)
    assert np.array_equal(out[..., 6:9], inside)
    assert np.array_equal(out[..., 9], index)
    assert np.array_equal(out[..., 10], index % 32)
    assert np.array_equal(out[..., 11], index // 32)


def test_all_threadgroup_memory_may_be_used(strict) -> None:
    y = np.zeros(128, np.float32)
    strict("right_memory_f32", [y], struct.pack("I", 128), (128, 1, 1))
    assert np.array_equal(y, np.arange(128) % 32)


def whole(*shape: int) -> np.ndarray:
    """Whole numbers whose sums of products float32 and float16 hold, added in any order."""
    return np.random.default_rng(shape[0]).integers(-4, 5, shape).astype(np.float32)


@pytest.mark.parametrize(("order", "seed"), ORDERS)
@pytest.mark.parametrize(("m", "n", "k"), [(8, 8, 8), (16, 16, 0), (16, 16, 32), (40, 24, 16), (8, 56, 72)])
def test_product_through_threadgroup_memory(strict, m, n, k, order, seed) -> None:
    a, b, c = whole(m, k), whole(n, k), whole(m + 1, n)[:m].copy()
    expected = a @ b.T + c
    threads = -(-m // 16) * -(-n // 16) * 128
    strict("right_product_f32", [a, b, c], struct.pack("3I", m, n, k), (threads, 1, 1), order=order, seed=seed)
    assert np.array_equal(c, expected)


@pytest.mark.parametrize(("order", "seed"), ORDERS)
def test_matrix_functions(strict, order, seed) -> None:
    a, b, y, z = (
        whole(8, 8),
        whole(9, 8)[1:].astype(np.float16),
        np.zeros((8, 8, 8), np.float32),
        np.zeros((8, 8), np.float16),
    )
    strict("right_matrix_f32", [a, b, y, z], struct.pack("2I", 64, 5), (32, 1, 1), (32, 1, 1), order=order, seed=seed)
    expected = [b[::-1, ::-1], np.full((8, 8), 5), a, a.T, a, a @ a.T, a @ b + 5, a @ b + a]
    for row, wanted in zip(y, expected, strict=True):
        assert np.array_equal(row, wanted)
    assert np.array_equal(z, b)


def test_a_matrix_that_nobody_has_set_is_nan(strict) -> None:
    y = np.zeros((8, 8), np.float32)
    strict("right_unset_f32", [y], struct.pack("I", 32), (32, 1, 1), (32, 1, 1))
    assert np.isnan(y).all()


def test_products_are_summed_in_order(strict) -> None:
    """In float32, from c on: c + a[0] b[0] + a[1] b[1] + ..., where each number is lost in the one before."""
    a, b, c = np.zeros((8, 8), np.float32), np.ones((8, 8), np.float32), np.full((8, 8), 2.0**24, np.float32)
    a[0], a[1, :2], a[2, 6:] = 1.0, [-(2.0**24), 1.0], [1.0, -(2.0**24)]
    strict("right_product_f32", [a, b, c], struct.pack("3I", 8, 8, 8), (128, 1, 1))
    assert np.array_equal(c[:4, 0], [2.0**24, 1.0, 0.0, 2.0**24])


@pytest.mark.parametrize(("order", "seed"), ORDERS)
@pytest.mark.parametrize("samples", [0, 1, 31, 32, 33, 70])
def test_composite_as_metal_runs_it(samples, order, seed) -> None:
    """The SIMD-group kernels of the package, in every order, against their plain twins."""
    generator = torch.Generator().manual_seed(samples)
    edges = torch.rand(5, samples + 1, generator=generator).sort().values
    sigmas = (torch.rand(5, samples, generator=generator) * 20).requires_grad_()
    rgbs = torch.rand(5, samples, 3, generator=generator).requires_grad_()

    def run() -> list[torch.Tensor]:
        out = ops.composite_rays(edges[:, :-1], edges[:, 1:], rgbs, sigmas, backend="host")
        loss = out.rgb.sum() + out.depth.sum() + out.weights.square().sum() + out.transmittance.sum()
        return [*out, *torch.autograd.grad(loss, [sigmas, rgbs])]

    plain = run()
    with kernels.strict_mode(order, seed):
        grouped = run()
    for a, b in zip(plain, grouped, strict=True):
        torch.testing.assert_close(a, b, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("order", ["forward", "reversed", "shuffled"])
def test_plain_kernels_run_strictly_too(order) -> None:
    rays = torch.randn(9, 3, generator=torch.Generator().manual_seed(0))
    box = torch.tensor([[-1.0] * 3, [1.0] * 3])
    plain = ops.march_rays(rays * 0.1, rays, box, 7, stratified=True, backend="host")
    with kernels.strict_mode(order, simd=False):
        one_by_one = ops.march_rays(rays * 0.1, rays, box, 7, stratified=True, backend="host")
    for a, b in zip(plain, one_by_one, strict=True):
        torch.testing.assert_close(a.float(), b.float(), rtol=1e-6, atol=1e-6)


def test_strict_mode_ends_with_its_block() -> None:
    with pytest.raises(RuntimeError, match="stop"), kernels.strict_mode():
        assert kernels.variant("composite_forward", torch.float32, "host")[0] == "composite_forward_simd_f32"
        raise RuntimeError("stop")
    assert kernels.variant("composite_forward", torch.float32, "host") == ("composite_forward_f32", 1)
