"""Marching: edges worked by hand on every backend, and what the reference must hold for any ray."""

from __future__ import annotations

import pytest
import torch

from nerf_metal import ops
from nerf_metal.reference import RaySamples, march_rays
from nerf_metal.reference.random import STREAM_MARCH, uniform
from nerf_metal.selftest.march import BOX, MARCH_CASES, MarchCase
from nerf_metal.selftest.modes import Mode
from nerf_metal.selftest.tolerances import CHI_SQUARE_255, EPS, FLOAT64, close
from tests.ops.modes import ALL_PLAIN_MODES

UNIT_BOX = torch.tensor([[-1.0] * 3, [1.0] * 3])
AXIS_RAY = torch.tensor([[-3.0, 0.0, 0.0]]), torch.tensor([[1.0, 0.0, 0.0]])
CASES = pytest.mark.parametrize("case", MARCH_CASES, ids=lambda case: case.name)


def march(mode: Mode, num_samples: int, **options: object) -> RaySamples:
    with mode.active() as backend:
        return ops.march_rays(*AXIS_RAY, UNIT_BOX, num_samples, backend=backend, **options)


@ALL_PLAIN_MODES
def test_even_edges_from_face_to_face(mode: Mode) -> None:
    # The ray enters the cube at t = 2 and leaves it at t = 4: quarters of 2 in between.
    got = march(mode, 4)
    assert got.t_edges.tolist() == [[2.0, 2.5, 3.0, 3.5, 4.0]]
    assert (got.t_min.item(), got.t_max.item(), got.hits.item()) == (2.0, 4.0, True)
    assert got.t_starts.tolist() == [[2.0, 2.5, 3.0, 3.5]] and got.t_ends.tolist() == [[2.5, 3.0, 3.5, 4.0]]


@ALL_PLAIN_MODES
def test_even_steps_in_disparity(mode: Mode) -> None:
    # 1 / t from 1/2 to 1/4 in two steps: 1/2, 3/8, 1/4.
    got = march(mode, 2, near=0.1, spacing="disparity")
    close(got.t_edges, torch.tensor([[2.0, 8.0 / 3.0, 4.0]]), "edges", EPS * 4)


@ALL_PLAIN_MODES
def test_jitter_moves_an_edge_between_the_middles_beside_it(mode: Mode) -> None:
    # Edge i of S = 4 lies at s in [i - 1/2, i + 1/2] / 4, the first and last in half a cell. u: test_random.py.
    u = uniform(1, 5, 11, STREAM_MARCH, torch.device("cpu"))[0]
    s = torch.stack((u[0] / 2, 0.5 + u[1], 1.5 + u[2], 2.5 + u[3], 3.5 + u[4] / 2)) / 4
    close(march(mode, 4, stratified=True, seed=11).t_edges, (2 + 2 * s)[None], "edges", EPS * 8)


@ALL_PLAIN_MODES
def test_a_miss_has_all_edges_at_near(mode: Mode) -> None:
    with mode.active() as backend:
        got = ops.march_rays(
            torch.tensor([[-3.0, 2.0, 0.0], [3.0, 0.0, 0.0]]),  # above the box; the box behind
            torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]),
            UNIT_BOX,
            3,
            near=0.25,
            stratified=True,
            backend=backend,
        )
    assert got.t_edges.tolist() == [[0.25] * 4] * 2
    assert not got.hits.any() and got.t_min.tolist() == got.t_max.tolist() == [0.25, 0.25]


# ---- the reference ----
@CASES
def test_reference_edges_grow_inside_the_bounds(case: MarchCase) -> None:
    o, d = case.rays_o_d()
    got = march_rays(o.double(), d.double(), BOX.double(), case.samples, **case.options)
    assert got.t_edges.shape == (case.rays, case.samples + 1)
    assert (got.t_edges.diff(dim=-1) >= 0).all()
    assert (got.t_edges >= got.t_min[:, None]).all() and (got.t_edges <= got.t_max[:, None]).all()
    assert (got.t_min >= case.near).all() and (got.t_max <= max(case.far, case.near)).all()
    assert torch.equal(got.hits, got.t_max > got.t_min)
    if case.rays > 100:
        assert 0.1 < got.hits.double().mean() < 0.95


@CASES
def test_reference_middles_of_hit_rays_lie_in_the_box(case: MarchCase) -> None:
    o, d = (x.double() for x in case.rays_o_d())
    got = march_rays(o, d, BOX.double(), case.samples, **case.options)
    middle = (got.t_starts + got.t_ends)[got.hits] / 2
    x = o[got.hits][:, None] + middle[..., None] * d[got.hits][:, None]
    assert ((x >= BOX[0] - FLOAT64) & (x <= BOX[1] + FLOAT64)).all()


@CASES
def test_reference_bounds_are_where_a_fine_walk_meets_the_box(case: MarchCase) -> None:
    # Steps of 0.01 along each ray: inside the box exactly between t_min and t_max, give or take a step.
    o, d = (x.double() for x in case.rays_o_d())
    got = march_rays(o, d, BOX.double(), case.samples, **case.options)
    t = torch.arange(0.0, 12.0, 0.01, dtype=torch.float64)
    x = o[:, None] + t[:, None] * d[:, None]
    inside = ((x >= BOX[0]) & (x <= BOX[1])).all(-1) & (t >= case.near) & (t <= case.far)
    said = (t >= got.t_min[:, None]) & (t <= got.t_max[:, None]) & got.hits[:, None]
    assert (inside != said).sum(-1).le(1).all()


def test_one_jittered_edge_falls_into_each_cell() -> None:
    samples = 16
    o, d = (x.double() for x in AXIS_RAY)
    got = march_rays(o.expand(500, 3), d.expand(500, 3), UNIT_BOX.double(), samples, stratified=True, seed=2)
    place = (got.t_edges - 2.0) / 2.0 * samples
    middle = torch.arange(samples + 1)
    assert ((place - middle).abs() <= 0.5).all()
    assert (place[:, 0] >= 0).all() and (place[:, -1] <= samples).all()
    # uniform inside the cell
    inner = ((place - middle + 0.5)[:, 1:-1] * 256).long().clamp(0, 255)
    count = torch.bincount(inner.flatten(), minlength=256).double()
    mean = inner.numel() / 256
    low, high = CHI_SQUARE_255
    assert low < float(((count - mean) ** 2 / mean).sum()) < high


@ALL_PLAIN_MODES
def test_equal_seeds_give_equal_edges_and_others_do_not(mode: Mode) -> None:
    edges = {seed: march(mode, 64, stratified=True, seed=seed).t_edges for seed in (0, 1, -1, 2**32)}
    assert torch.equal(edges[0], march(mode, 64, stratified=True, seed=0).t_edges)
    assert torch.equal(edges[0], edges[2**32])  # the low 32 bits count
    assert not torch.equal(edges[0], edges[1]) and not torch.equal(edges[0], edges[-1])
