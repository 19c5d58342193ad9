"""Every op through the metal backend, on the double: the SIMD-group kernels and true arguments, against the others."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from nerf_metal import kernels, ops
from tests.kernels.double import Double

pytestmark = pytest.mark.metal_encoding

BOX = torch.tensor([[-1.0, -0.9, -1.1], [1.0, 0.8, 1.2]])
SAMPLES = [0, 1, 31, 32, 33, 70]


def rays(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    origins = torch.randn(count, 3, generator=generator)
    return origins, torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)


def names(metal: Double) -> set[str]:
    """The kernels looked up."""
    return {entry["name"] for entry in metal.calls("get_kernel_function")}


def equal(ours, theirs) -> None:
    """The same kernel, the same numbers; only instructions differ between levels."""
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("count", [0, 1, 7, 130])
def test_intersect(metal: Double, count) -> None:
    origins, directions = rays(count)
    ours = ops.intersect_rays(origins, directions, BOX, near=0.1, far=50.0, backend="metal")
    equal(ours, ops.intersect_rays(origins, directions, BOX, near=0.1, far=50.0, backend="host"))
    equal(ours, ops.intersect_rays(origins, directions, BOX, near=0.1, far=50.0, backend="torch"))
    if count:
        assert names(metal) == {"march_intersect_f32"}


@pytest.mark.parametrize("spacing", ops.SPACINGS)
@pytest.mark.parametrize("stratified", [False, True])
@pytest.mark.parametrize("samples", [1, 14, 15, 16, 17, 64])  # 16 edges a thread
def test_march(metal: Double, samples, stratified, spacing) -> None:
    origins, directions = rays(19)
    how = {"near": 0.1, "far": 50.0, "stratified": stratified, "seed": -3, "spacing": spacing}
    ours = ops.march_rays(origins, directions, BOX, samples, backend="metal", **how)
    equal(ours, ops.march_rays(origins, directions, BOX, samples, backend="host", **how))
    theirs = ops.march_rays(origins, directions, BOX, samples, backend="torch", **how)
    torch.testing.assert_close(ours.t_edges, theirs.t_edges, rtol=1e-5, atol=1e-5)
    (dispatch,) = metal.calls("dispatch_array_with_group_size")
    assert dispatch["grid"] == [samples // 16 + 1, 19, 1]
    assert dispatch["group"] == [8, 16, 1]


@pytest.mark.parametrize("merge", [False, True])
@pytest.mark.parametrize("stratified", [False, True])
def test_importance(metal: Double, stratified, merge) -> None:
    generator = torch.Generator().manual_seed(1)
    edges = torch.rand(11, 34, generator=generator).sort().values[:, :-1]  # a row stride of its own
    weights = torch.rand(11, 32, generator=generator) ** 4
    how = {"stratified": stratified, "merge": merge, "seed": 2**40 + 9}
    ours = ops.sample_importance(edges, weights, 21, backend="metal", **how)
    equal([ours], [ops.sample_importance(edges, weights, 21, backend="host", **how)])
    theirs = ops.sample_importance(edges, weights, 21, backend="torch", **how)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


Case = Callable[[torch.Generator, int], tuple[tuple[torch.Tensor, ...], dict[str, torch.Tensor | None]]]


def dense(generator: torch.Generator, samples: int):
    """Times as views of one tensor of edges."""
    edges = torch.rand(6, samples + 1, generator=generator).sort().values
    return (edges[:, :-1], edges[:, 1:]), {"background": torch.rand(3, generator=generator)}


def separate(generator: torch.Generator, samples: int):
    """Times in tensors of their own, and no background."""
    (starts, ends), _ = dense(generator, samples)
    return (starts.clone(), ends.clone()), {"background": None}


def shifted(generator: torch.Generator, samples: int):
    """Everything in the middle of a larger storage."""
    edges = torch.rand(9, samples + 3, generator=generator).sort().values[2:8, 1 : samples + 2]
    return (edges[:, :-1], edges[:, 1:]), {"background": torch.rand(8, 3, generator=generator)[2:]}


def packed(generator: torch.Generator, samples: int):
    """Rays of unequal length; two of them empty."""
    counts = torch.tensor([samples, 0, 1, samples // 2, 0, 3])
    info = torch.stack([counts.cumsum(0) - counts, counts], -1)
    edges = torch.rand(2, int(counts.sum()), generator=generator).sort(dim=0).values
    return (edges[0], edges[1]), {"background": torch.rand(6, 3, generator=generator), "packed_info": info}


def results(case: Case, samples: int, dtype: torch.dtype, alphas: bool, backend: str) -> list[torch.Tensor]:
    """Outputs and gradients of one call."""
    generator = torch.Generator().manual_seed(samples)
    times, how = case(generator, samples)
    # one element into their storage
    count = times[0].numel()
    values = torch.rand(count + 1, generator=generator)[1:].view(times[0].shape) * (0.9 if alphas else 8.0)
    rgbs = torch.rand(3 * count + 1, generator=generator)[1:].view(*times[0].shape, 3)
    values, rgbs = values.to(dtype).requires_grad_(), rgbs.to(dtype).requires_grad_()
    leaves = [values, rgbs]
    if how["background"] is not None:
        leaves.append(how["background"].requires_grad_())
    pair = (None, values) if alphas else (values, None)
    out = ops.composite_rays(*times, rgbs, *pair, **how, early_stop_eps=1e-3, backend=backend)
    cotangents = [torch.rand(o.shape, generator=generator) for o in out]
    loss = sum((o * c).sum() for o, c in zip(out, cotangents, strict=True))
    return [*(o.detach() for o in out), *torch.autograd.grad(loss, leaves)]


@pytest.mark.parametrize("alphas", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("samples", SAMPLES)
@pytest.mark.parametrize("case", [dense, separate, shifted, packed])
def test_composite(metal: Double, case, samples, dtype, alphas) -> None:
    ours = results(case, samples, dtype, alphas, "metal")
    suffix = "f32" if dtype == torch.float32 else "f16"
    assert names(metal) == {f"composite_forward_simd_{suffix}", f"composite_backward_simd_{suffix}"}
    assert [d["grid"] for d in metal.calls("dispatch_array_with_group_size")] == [[192, 1, 1]] * 2
    for backend in ("host", "torch"):
        for a, b in zip(ours, results(case, samples, dtype, alphas, backend), strict=True):
            assert a.dtype == b.dtype
            # a half gradient may fall on the other side of a rounding
            rtol = 2e-3 if a.dtype == torch.float16 else 2e-5
            torch.testing.assert_close(a, b, rtol=rtol, atol=rtol / 10)


def test_no_rays(metal: Double) -> None:
    empty = torch.zeros(0, 5)
    out = ops.composite_rays(empty, empty, torch.zeros(0, 5, 3), empty, backend="metal")
    assert [tuple(o.shape) for o in out] == [(0, 3), (0,), (0,), (0, 5), (0, 5)]
    assert not metal.calls("run_command_block")


def test_views_of_one_tensor_of_edges_are_not_copied(metal: Double) -> None:
    edges = torch.rand(4, 9).sort().values
    ops.composite_rays(edges[:, :-1], edges[:, 1:], torch.rand(4, 8, 3), torch.rand(4, 8), backend="metal")
    bound = metal.calls("set_arg_tensor")
    assert [bound[2]["data"], bound[3]["data"]] == [edges.data_ptr(), edges.data_ptr() + 4]
    assert [bound[2]["offset"], bound[3]["offset"]] == [0, 1]


def test_auto_stays_with_the_host_on_cpu_tensors(metal: Double) -> None:
    assert kernels.resolve("op", "auto", torch.zeros(1)) == "host"
    assert kernels.resolve("op", "metal", torch.zeros(1)) == "metal"


def test_metal_through_the_method_of_older_torch(metal_method: Double) -> None:
    ours = results(packed, 33, torch.float32, False, "metal")
    for a, b in zip(ours, results(packed, 33, torch.float32, False, "host"), strict=True):
        torch.testing.assert_close(a, b, rtol=2e-5, atol=2e-6)
    assert len(metal_method.calls("setArg")) == 2
