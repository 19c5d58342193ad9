"""March kernels against the float64 reference in every mode, cut into threads as on the host and as on a GPU."""

from __future__ import annotations

import pytest
import torch

from nerf_metal import kernels, ops
from nerf_metal.reference import RaySamples
from nerf_metal.selftest.march import BOX, MARCH_CASES, MarchCase, compare_march, run_march
from nerf_metal.selftest.modes import HOST, METAL, Mode
from tests.ops.guards import Guarded
from tests.ops.modes import ON_METAL, PLAIN_KERNEL_MODES

CASES = pytest.mark.parametrize("case", MARCH_CASES, ids=lambda case: case.name)


@PLAIN_KERNEL_MODES
@CASES
def test_edges_are_the_references(case: MarchCase, mode: Mode) -> None:
    got = run_march(case, mode)
    compare_march(case, got)
    assert (got.t_edges.diff(dim=-1) >= 0).all()
    assert (got.t_edges >= got.t_min[:, None]).all() and (got.t_edges <= got.t_max[:, None]).all()


@ON_METAL
def test_metal_edges_are_the_references() -> None:
    for case in MARCH_CASES:
        compare_march(case, run_march(case, METAL))


@PLAIN_KERNEL_MODES
@CASES
@pytest.mark.parametrize(("rays", "edges"), [(1, 1), (1, 16), (5, 7), (16, 1000), (40, 16)])
def test_threads_of_any_size_write_every_edge_and_nothing_else(
    rays: int, edges: int, case: MarchCase, mode: Mode
) -> None:
    guarded = Guarded()
    o, d = case.rays_o_d()
    inputs = [guarded.place(x) for x in (o, d, BOX)]
    t_edges = guarded.unfilled((case.rays, case.samples + 1))
    t_min, t_max = guarded.unfilled((case.rays,)), guarded.unfilled((case.rays,))
    hits = guarded.unfilled((case.rays,), torch.uint8)
    params = {
        "n_rays": case.rays,
        "n_samples": case.samples,
        "rays_per_thread": rays,
        "edges_per_thread": edges,
        "stratified": int(case.stratified),
        "disparity": int(case.spacing == "disparity"),
        "seed": case.seed & 0xFFFFFFFF,
        "t_near": case.near,
        "t_far": case.far,
    }
    grid = (case.samples // edges + 1, -(-case.rays // rays))
    with mode.active() as backend:
        kernels.launch(
            "march_forward_f32",
            [*inputs, t_edges, t_min, t_max, hits],
            params,
            grid,
            group=(8, 16),
            backend=backend,
        )
    guarded.check()
    compare_march(case, RaySamples(t_edges, t_min, t_max, hits == 1))
    assert set(hits.tolist()) <= {0, 1}


@PLAIN_KERNEL_MODES
def test_rays_may_be_views(mode: Mode) -> None:
    case = next(case for case in MARCH_CASES if case.name == "near-far")
    o, d = case.rays_o_d()
    both = torch.cat((torch.full((case.rays, 1), float("nan")), o, d), -1)  # offsets 1 and 4, row stride 7
    with mode.active() as backend:
        got = ops.march_rays(
            both[:, 1:4],
            both[:, 4:],
            BOX.t().contiguous().t(),
            case.samples,
            backend=backend,
            **case.options,
        )
    assert torch.equal(got.t_edges, run_march(case, mode).t_edges)
    one = d[:1].expand(case.rays, 3)
    with mode.active() as backend:
        shared = ops.march_rays(o, one, BOX, 5, backend=backend)
        copied = ops.march_rays(o, one.clone(), BOX, 5, backend=backend)
    assert torch.equal(shared.t_edges, copied.t_edges)


def test_more_threads_change_no_bit() -> None:
    case = next(case for case in MARCH_CASES if case.name == "stratified-257x192")
    alone = run_march(case, HOST)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        together = run_march(case, HOST)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, two) for one, two in zip(alone, together, strict=True))
