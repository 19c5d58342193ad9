"""March kernels against the float64 reference in every mode, cut into threads as on the host and as on a GPU."""

from __future__ import annotations

import pytest
import torch

from nerf_metal import kernels, ops
from nerf_metal.reference import RaySamples, march_rays
from tests.ops.guards import Guarded
from tests.ops.march_cases import BOX, MARCH_CASES, MarchCase
from tests.ops.modes import HOST, METAL, ON_METAL, PLAIN_KERNEL_MODES, Mode
from tests.tolerances import BOUNDS, DISPARITY, EDGES, close

CASES = pytest.mark.parametrize("case", MARCH_CASES, ids=lambda case: case.name)


def compare_march(case: MarchCase, got: RaySamples) -> dict[str, float]:
    """Worst error over tolerance; the boxes are met so that rounding decides no hit."""
    o, d = (x.double() for x in case.rays_o_d())
    want = march_rays(o, d, BOX.double(), case.samples, **case.options)
    assert torch.equal(got.hits.cpu(), want.hits), case.name
    magnitude = want.t_max[:, None].abs()
    tolerance = EDGES * magnitude
    if case.spacing == "disparity":
        tolerance = DISPARITY * want.t_edges * want.t_edges / want.t_min[:, None] + BOUNDS * magnitude
    # a bound's own error is relative to the numbers it is made of, (face - origin) / direction
    reach = torch.maximum(want.t_max, torch.ones_like(want.t_max))
    return {
        "t_min": close(got.t_min, want.t_min, "t_min", BOUNDS * reach, case.name),
        "t_max": close(got.t_max, want.t_max, "t_max", BOUNDS * reach, case.name),
        "t_edges": close(got.t_edges, want.t_edges, "t_edges", tolerance + BOUNDS * reach[:, None], case.name),
    }


def march(case: MarchCase, mode: Mode) -> RaySamples:
    o, d = (x.to(mode.device) for x in case.rays_o_d())
    with mode.active() as backend:
        return ops.march_rays(o, d, BOX.to(mode.device), case.samples, backend=backend, **case.options)


@PLAIN_KERNEL_MODES
@CASES
def test_edges_are_the_references(case: MarchCase, mode: Mode) -> None:
    got = march(case, mode)
    compare_march(case, got)
    assert (got.t_edges.diff(dim=-1) >= 0).all()
    assert (got.t_edges >= got.t_min[:, None]).all() and (got.t_edges <= got.t_max[:, None]).all()


@ON_METAL
def test_metal_edges_are_the_references() -> None:
    for case in MARCH_CASES:
        compare_march(case, march(case, METAL))


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
@CASES
def test_bounds_alone_are_those_of_marching(case: MarchCase, mode: Mode) -> None:
    o, d = case.rays_o_d()
    with mode.active() as backend:
        bounds = ops.intersect_rays(o, d, BOX, near=case.near, far=case.far, backend=backend)
    for one, two in zip(bounds, march(case, mode)[1:], strict=True):
        assert torch.equal(one, two)


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
    assert torch.equal(got.t_edges, march(case, mode).t_edges)
    one = d[:1].expand(case.rays, 3)
    with mode.active() as backend:
        shared = ops.march_rays(o, one, BOX, 5, backend=backend)
        copied = ops.march_rays(o, one.clone(), BOX, 5, backend=backend)
    assert torch.equal(shared.t_edges, copied.t_edges)


def test_more_threads_change_no_bit() -> None:
    case = next(case for case in MARCH_CASES if case.name == "stratified-257x192")
    alone = march(case, HOST)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        together = march(case, HOST)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, two) for one, two in zip(alone, together, strict=True))
