"""What light reaches of packed samples: worked by hand on every backend, then the kernels against the reference."""

from __future__ import annotations

import math

import pytest
import torch

from nerf_metal import kernels, ops
from nerf_metal.reference import RaySampleList
from nerf_metal.reference import visibility as reference
from nerf_metal.selftest.modes import METAL, Mode
from nerf_metal.selftest.tolerances import EPS, close
from nerf_metal.selftest.visibility import VISIBILITY_CASES, VisibilityCase, compare_visibility, run_visibility
from tests.ops.guards import Guarded
from tests.ops.modes import ALL_PLAIN_MODES, ON_METAL, PLAIN_KERNEL_MODES

NAN, INFINITY = float("nan"), float("inf")


def infos(*pairs: tuple[int, int]) -> torch.Tensor:
    return torch.tensor(pairs, dtype=torch.int32).reshape(-1, 2)


def gather(mode: Mode, *arguments: object) -> RaySampleList:
    placed = [x.to(mode.device) if isinstance(x, torch.Tensor) else x for x in arguments]
    with mode.active() as backend:
        return ops.visibility_gather(*placed, backend=backend)


def count(mode: Mode, *arguments: torch.Tensor, eps: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Counts and what is left of the light."""
    *inputs, light = (x.to(mode.device).clone() for x in arguments)
    with mode.active() as backend:
        return ops.visibility_count(*inputs, light, early_stop_eps=eps, backend=backend), light


def copy(mode: Mode, rows: torch.Tensor, *arguments: torch.Tensor) -> torch.Tensor:
    rows, source, target, out = (x.to(mode.device) for x in (rows, *arguments))
    out = out.clone()
    with mode.active() as backend:
        assert ops.visibility_copy(rows, source, target, out, backend=backend) is None
    return out


# ---- by hand ----
@ALL_PLAIN_MODES
def test_gathered_samples_worked_by_hand(mode: Mode) -> None:
    t = torch.arange(6.0)
    rays_o = torch.tensor([[0.0, 0.0, 0.0], [1.0, 2.0, 3.0], [9.0, 9.0, 9.0]])
    rays_d = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, -1.0], [9.0, 9.0, 9.0]])
    # of ray 0's three samples the first two; ray 1's only one, in front of them and with room behind; ray 2 has none
    got = gather(mode, rays_o, rays_d, t, t + 1, infos((0, 3), (4, 1), (5, 0)), infos((3, 2), (0, 3), (5, 1)), 7)
    assert got.ray_indices.tolist() == [1, 0, 0, 0, 0, 0, 0]
    assert got.t_starts.tolist() == [4.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0]
    assert got.t_ends.tolist() == [5.0, 0.0, 0.0, 1.0, 2.0, 0.0, 0.0]
    places = [[1.0, 11.0, -1.5], [0.0] * 3, [0.0] * 3, [0.5, 0.0, 0.0], [1.5, 0.0, 0.0], [0.0] * 3, [0.0] * 3]
    assert got.positions.tolist() == places
    assert got.ray_indices.dtype == torch.int64


@ALL_PLAIN_MODES
def test_counts_worked_by_hand(mode: Mode) -> None:
    half = math.log(2.0)  # of the light stays behind an interval of length 1
    sigmas = torch.tensor([half, half, half, 0.0, -5.0, half, INFINITY, half, NAN, 1.0])
    t_starts = torch.arange(10.0)
    t_ends = t_starts + 1
    t_ends[6] = 6.0  # no length: transparent however dense
    rays = infos((0, 3), (3, 4), (7, 1), (8, 2), (0, 0), (6, 2))
    light = torch.tensor([1.0, 1.0, 0.2, 1.0, 0.5, 1.0])
    # 1, 0.5 and then 0.25 < 0.3; nothing, nothing, half, nothing; too dark from the start; a NaN ends the light
    counts, left = count(mode, sigmas, t_starts, t_ends, rays, light, eps=0.3)
    assert counts.tolist() == [2, 4, 0, 1, 0, 2] and counts.dtype == torch.int32
    close(left[:3], torch.tensor([0.25, 0.5, 0.2]), "light", EPS)
    assert left[3].isnan() and left[4] == 0.5
    close(left[5], torch.tensor(0.5), "light", EPS)
    counts, left = count(mode, sigmas, t_starts, t_ends, rays[:3], light[:3], eps=0.0)  # nothing is too dark
    assert counts.tolist() == [3, 4, 1]
    opaque = torch.tensor([1e30, 1.0, 1.0])
    counts, left = count(mode, opaque, t_starts[:3], t_ends[:3], rays[:1], light[:1], eps=0.0)  # nor is no light
    assert counts.tolist() == [3] and left.tolist() == [0.0]


@ALL_PLAIN_MODES
def test_copied_rows_worked_by_hand(mode: Mode) -> None:
    rows = torch.arange(8.0).reshape(4, 2)
    got = copy(mode, rows, infos((0, 2), (2, 2)), infos((3, 1), (0, 3)), torch.full((5, 2), -1.0))
    assert got.tolist() == [[4.0, 5.0], [6.0, 7.0], [-1.0, -1.0], [0.0, 1.0], [-1.0, -1.0]]


# ---- the reference ----
def test_windows_count_what_one_call_counts() -> None:
    """Light is handed on from window to window: the windows of a ray together reach what all of it reaches."""
    drawn = VisibilityCase("", 300).build()
    sigmas, t_starts, t_ends = (x.double() for x in (drawn.sigmas, drawn.t_starts, drawn.t_ends))
    light = torch.ones(300, dtype=torch.float64)
    whole = reference.visibility_count(sigmas, t_starts, t_ends, drawn.source_info, light, early_stop_eps=1e-2)
    again, parts = torch.ones_like(light), torch.zeros_like(whole)
    for first, last in ((0, 5), (5, 6), (6, 100)):
        sizes = (drawn.source_info[:, 1] - first).clamp(0, last - first)
        info = torch.stack((drawn.source_info[:, 0] + first, sizes), -1)
        parts += reference.visibility_count(sigmas, t_starts, t_ends, info, again, early_stop_eps=1e-2)
    assert torch.equal(whole, parts) and torch.equal(light, again)
    assert 0 < whole.sum() < drawn.source_info[:, 1].sum()


# ---- the kernels ----
@PLAIN_KERNEL_MODES
@pytest.mark.parametrize("case", VISIBILITY_CASES, ids=lambda case: case.name)
def test_results_are_the_references(case: VisibilityCase, mode: Mode) -> None:
    compare_visibility(case, run_visibility(case, mode))


@PLAIN_KERNEL_MODES
def test_inputs_may_be_views(mode: Mode) -> None:
    drawn = VisibilityCase("", 65).build()
    arguments = [drawn.rays_o, drawn.rays_d, drawn.t_starts, drawn.t_ends, drawn.source_info, drawn.target_info]
    spread = [torch.stack((torch.zeros_like(x), x), dim=-1)[..., 1] for x in arguments]
    for one, two in zip(gather(mode, *arguments, drawn.room), gather(mode, *spread, drawn.room), strict=True):
        assert torch.equal(one, two)
    ones = torch.ones(65)
    want = count(mode, drawn.sigmas, *arguments[2:5], ones, eps=0.1)
    dense = torch.stack((drawn.sigmas, drawn.sigmas), -1)[:, 0]
    assert all(torch.equal(a, b) for a, b in zip(count(mode, dense, *spread[2:5], ones, eps=0.1), want, strict=True))
    rows = torch.rand(2, len(drawn.t_starts)).t()
    out = torch.zeros(drawn.room, 2)
    want_rows = copy(mode, rows.contiguous(), drawn.source_info, drawn.target_info, out)
    assert torch.equal(copy(mode, rows, spread[4], spread[5], out), want_rows)


@PLAIN_KERNEL_MODES
@pytest.mark.parametrize("lanes", [0, 1, 3, 16])
def test_wild_infos_are_cut_and_nothing_around_the_buffers_is_touched(lanes: int, mode: Mode) -> None:
    """What leads out of source or target is left out, however many threads share a ray; 0 counts as one."""
    guarded = Guarded()
    big = 2**31 - 1
    source = guarded.place(infos((-5, 4), (10, big), (big, 3), (3, -1), (2, 5)))
    target = guarded.place(infos((0, 2), (2, 4), (6, 2), (7, 2), (11, big)))
    rays = guarded.place(torch.rand(5, 3))
    starts, ends, sigmas = (guarded.place(torch.rand(12)) for _ in range(3))
    rows = guarded.place(torch.rand(12, 2))
    indices = guarded.unfilled((13,), torch.int32)
    new_starts, new_ends, positions = (guarded.unfilled(shape) for shape in ((13,), (13,), (13, 3)))
    light, counts = guarded.place(torch.ones(5)), guarded.unfilled((5,), torch.int32)
    out = guarded.unfilled((13, 2))
    params = {
        "n_rays": 5,
        "n_source": 12,
        "n_target": 13,
        "n_columns": 2,
        "rays_per_thread": 2,
        "lanes": lanes,
        "early_stop_eps": 0.0,
    }
    grid = (max(lanes, 1), 4)
    with mode.active() as backend:
        buffers = [rays, rays, starts, ends, source, target, indices, new_starts, new_ends, positions]
        kernels.launch("visibility_gather_f32", buffers, params, grid, backend=backend)
        buffers = [sigmas, starts, ends, source, light, counts]
        kernels.launch("visibility_count_f32", buffers, params, (4,), backend=backend)
        kernels.launch("visibility_copy_f32", [rows, source, target, out], params, grid, backend=backend)
    guarded.check()
    moved = {0: 0, 1: 1, 2: 10, 3: 11, 11: 2, 12: 3}  # a start below 0 is 0
    for to in range(13):
        if to in moved:
            assert new_starts[to] == starts[moved[to]] and new_ends[to] == ends[moved[to]]
            assert torch.equal(out[to], rows[moved[to]])
        else:
            assert new_starts[to].isnan() and out[to].isnan().all()
    assert counts.tolist() == [4, 2, 0, 0, 5]


@ON_METAL
def test_metal_results_are_the_references() -> None:
    for case in VISIBILITY_CASES:
        compare_visibility(case, run_visibility(case, METAL))
