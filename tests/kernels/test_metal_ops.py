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
    """The same kernel, the same numbers; only instructions differ between instruction sets."""
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


@pytest.mark.parametrize("degree", [1, 2, 3, 4])
@pytest.mark.parametrize("count", [1, 7, 130])
def test_spherical_harmonics(metal: Double, count, degree) -> None:
    _, directions = rays(count)
    grad = torch.randn(count, degree**2, generator=torch.Generator().manual_seed(1))

    def run(backend: str) -> list[torch.Tensor]:
        leaf = directions.clone().requires_grad_()
        values = ops.spherical_harmonics(leaf, degree, backend=backend)
        loss = (values * grad).sum() + 0.0 * leaf.sum()  # the reference's first band has no gradient
        return [values.detach(), *torch.autograd.grad(loss, leaf)]

    ours = run("metal")
    assert names(metal) == {"sh_forward_f32", "sh_backward_f32"}
    assert [d["grid"] for d in metal.calls("dispatch_array_with_group_size")] == [[count, 1, 1]] * 2
    equal(ours, run("host"))
    for a, b in zip(ours, run("torch"), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("room", [None, 300])
@pytest.mark.parametrize(("cascades", "cone_angle"), [(1, 0.0), (3, 0.0), (3, 1 / 64)])
def test_traverse(metal: Double, cascades, cone_angle, room) -> None:
    origins, directions = rays(19)
    bits = torch.randint(-(2**31), 2**31, (cascades * 16**3 // 32,), generator=torch.Generator().manual_seed(2)).int()
    how = {"resolution": 16, "cascades": cascades, "step_size": 0.05, "cone_angle": cone_angle, "max_samples": room}
    how |= {"stratified": True, "seed": -3}
    ours = ops.traverse_grid(origins, directions, BOX, bits, backend="metal", **how)
    equal(ours, ops.traverse_grid(origins, directions, BOX, bits, backend="host", **how))
    theirs = ops.traverse_grid(origins, directions, BOX, bits, backend="torch", **how)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    assert names(metal) == {"traverse_blocks", "traverse_count_f32", "traverse_write_f32"}
    grids = [dispatch["grid"] for dispatch in metal.calls("dispatch_array_with_group_size")]
    assert grids == [[2 * cascades, 1, 1], [19, 1, 1], [19, 1, 1]]


@pytest.mark.parametrize("first_cell", [None, 5000])
def test_occupancy(metal: Double, first_cell) -> None:
    bits = torch.randint(-(2**31), 2**31, (256,), generator=torch.Generator().manual_seed(3)).int()
    how = {"resolution": 16, "cascades": 2, "seed": 9, "first_cell": first_cell}
    found = {}
    for backend in ("metal", "host", "torch"):
        chosen = ops.occupancy_cells(bits, BOX, 500, 0 if first_cell else 500, backend=backend, **how)
        density, values = torch.linspace(0.0, 1.0, 8192), chosen.positions.norm(dim=-1) - 0.5
        ops.occupancy_update(density, chosen.cells, values, backend=backend)
        found[backend] = [*chosen, density, ops.occupancy_pack(density, 0.25, backend=backend)]
    equal(found["metal"], found["host"])
    equal(found["metal"], found["torch"])
    assert names(metal) == {"occupancy_cells_f32", "occupancy_update_f32", "occupancy_pack_f32"}


def test_visibility(metal: Double) -> None:
    origins, directions = rays(19)
    counts = torch.arange(19, dtype=torch.int32) * 3
    info = torch.stack((counts.cumsum(0, dtype=torch.int32) - counts, counts), -1)
    samples = int(counts.sum())
    t_starts = torch.linspace(1.0, 4.0, samples)
    found = {}
    for backend in ("metal", "host", "torch"):
        light, out = torch.ones(19), torch.zeros(samples, 5)
        chosen = ops.visibility_gather(
            origins, directions, t_starts, t_starts + 0.01, info, info.clamp(max=9), samples, backend=backend
        )
        sigmas = chosen.positions.norm(dim=-1) * 50
        reached = ops.visibility_count(
            sigmas, t_starts, t_starts + 0.01, info, light, early_stop_eps=0.1, backend=backend
        )
        ops.visibility_copy(chosen.positions.repeat(1, 2)[:, :5], info, info, out, backend=backend)
        found[backend] = [*chosen, reached, light, out]
    equal(found["metal"], found["host"])
    equal(found["metal"], found["torch"])
    assert names(metal) == {"visibility_gather_f32", "visibility_count_f32", "visibility_copy_f32"}
    dispatches = metal.calls("dispatch_array_with_group_size")
    assert [d["grid"] for d in dispatches] == [[16, 19, 1], [19, 1, 1], [16, 19, 1]]
    assert [d["group"] for d in dispatches] == [[16, 8, 1], [128, 1, 1], [16, 8, 1]]


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("count", [1, 3, 4, 5, 130])  # 4 elements a thread
def test_adam(metal: Double, count, sparse, half) -> None:
    def run(backend: str) -> list[torch.Tensor]:
        drawn = torch.rand(4, count, generator=torch.Generator().manual_seed(count))
        param, grad, exp_avg, exp_avg_sq = (row.clone() for row in drawn)
        grad[count // 3 :: 2] = 0.0
        copy = torch.zeros(count, dtype=torch.float16) if half else None
        state = [param, grad, exp_avg, exp_avg_sq]
        ops.adam_step(*state, step=7, lr=0.1, sparse=sparse, half_copy=copy, backend=backend)
        return state if copy is None else [*state, copy]

    ours = run("metal")
    assert names(metal) == {"adam_step_f32"}
    assert metal.calls("dispatch_array_with_group_size")[0]["grid"] == [(count + 3) // 4, 1, 1]
    equal(ours, run("host"))
    for a, b in zip(ours, run("torch"), strict=True):
        # a half may fall on the other side of a rounding
        rtol = 1e-3 if a.dtype == torch.float16 else 1e-6
        torch.testing.assert_close(a, b, rtol=rtol, atol=1e-6)


@pytest.mark.parametrize(("width", "block"), [(48, 16), (80, 8)])
@pytest.mark.parametrize("rows", [1, 16, 17, 100])
def test_mlp(metal: Double, rows, width, block) -> None:
    generator = torch.Generator().manual_seed(rows)
    x = torch.randn(rows, 28, generator=generator)[:, 2:26]  # an offset and a row stride
    weights = [torch.randn(o, i, generator=generator) / i**0.5 for i, o in [(24, width), (width, width), (width, 3)]]
    biases = [torch.randn(len(w), generator=generator) for w in weights]
    grad = torch.randn(rows, 3, generator=generator)

    def run(backend: str) -> list[torch.Tensor]:
        leaves = [t.detach().requires_grad_() for t in (x, *weights, *biases)]
        y = ops.mlp(leaves[0], leaves[1:4], leaves[4:], output_activation="sigmoid", backend=backend)
        return [y.detach(), *torch.autograd.grad(y, leaves, grad)]

    ours = run("metal")
    backward = {"mlp_backward_rows_simd_f32", "mlp_backward_weights_simd_f32", "mlp_sum_f32"}
    assert names(metal) == {"mlp_forward_simd_f32"} | backward
    blocks, chunks = -(-rows // block), -(-rows // 16)
    patches = 2 + 4 + 2 if width == 48 else 3 + 9 + 3
    grids = [d["grid"][0] for d in metal.calls("dispatch_array_with_group_size")]
    sums = [32 * width + width * width + 16 * width, 2 * width + 16]  # widths are padded to whole tiles
    assert grids == [32 * blocks, 32 * blocks, 32 * chunks * patches, *sums]
    assert all(d["group"] == [128, 1, 1] for d in metal.calls("dispatch_array_with_group_size"))
    for backend in ("host", "torch"):
        for a, b in zip(ours, run(backend), strict=True):
            torch.testing.assert_close(a, b, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(("count", "features"), [(1, 4), (7, 1), (130, 2), (70, 8)])
def test_hashgrid(metal: Double, count, features, dtype, deterministic) -> None:
    generator = torch.Generator().manual_seed(count)
    levels = ops.hashgrid_levels(4, 2, 40, 9)
    entries = int(levels[-1, 1] + levels[-1, 2])
    positions = torch.rand(count, 3, generator=generator)
    table = torch.randn(entries, features, generator=generator).to(dtype)
    grad = torch.randn(count, 4 * features, generator=generator)

    def run(backend: str) -> list[torch.Tensor]:
        place, values = positions.clone().requires_grad_(), table.clone().requires_grad_()
        out = ops.hashgrid_encode(place, values, levels, deterministic=deterministic, backend=backend)
        return [out.detach(), *torch.autograd.grad(out, (place, values), grad)]

    ours = run("metal")
    suffix = "f32" if dtype == torch.float32 else "f16"
    sums = {"hashgrid_backward_fixed_f32", "hashgrid_fixed_f32"} if deterministic else {"hashgrid_backward_atomic_f32"}
    assert names(metal) == {f"hashgrid_forward_{suffix}", f"hashgrid_backward_positions_{suffix}", *sums}
    grids = [d["grid"] for d in metal.calls("dispatch_array_with_group_size")]
    assert grids[:3] == [[count, 4, 1], [count, 1, 1], [count, 4, 1]]
    assert grids[3:] == ([[entries * features, 1, 1]] if deterministic else [])
    for backend in ("host", "torch"):
        for a, b in zip(ours, run(backend), strict=True):
            assert a.dtype == b.dtype
            # sums in other orders; a half gradient may fall on the other side of a rounding
            rtol = 2e-3 if a.dtype == torch.float16 else 2e-5
            torch.testing.assert_close(a, b, rtol=rtol, atol=2e-4)


def test_hashgrid_adds_to_a_given_gradient(metal: Double) -> None:
    levels = ops.hashgrid_levels(2, 2, 9, 8)
    table = torch.zeros(int(levels[-1, 1] + levels[-1, 2]), 2, requires_grad=True)
    for deterministic in (False, True):
        given = torch.ones_like(table)
        known = torch.zeros(5, 4)
        how = {"known": known, "grad_table": given, "deterministic": deterministic, "backend": "metal"}
        ops.hashgrid_encode(torch.rand(5, 3), table, levels, **how).sum().backward()
        assert table.grad is None
        # one for each point, level and feature
        torch.testing.assert_close(given.sum() - given.numel(), torch.tensor(20.0), rtol=1e-4, atol=0)
    assert "hashgrid_forward_f32" not in names(metal)


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
