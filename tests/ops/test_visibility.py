"""What light reaches of packed samples: worked by hand on every backend, then the kernels against the reference."""

from __future__ import annotations

import math

import pytest
import torch

from nerf_metal import kernels, ops
from nerf_metal.reference import RaySampleList
from nerf_metal.reference import visibility as reference
from tests.ops.guards import Guarded
from tests.ops.modes import ALL_PLAIN_MODES, METAL, ON_METAL, PLAIN_KERNEL_MODES, Mode
from tests.tolerances import EPS, close, product

NAN, INFINITY = float("nan"), float("inf")
RAYS = pytest.mark.parametrize("rays", [0, 1, 63, 64, 65, 300])


def infos(*pairs: tuple[int, int]) -> torch.Tensor:
    return torch.tensor(pairs, dtype=torch.int32).reshape(-1, 2)


def packed(counts: torch.Tensor, gaps: torch.Tensor | int = 0) -> torch.Tensor:
    """Start and count of rays that follow one another, with gaps behind them."""
    ends = (counts + gaps).cumsum(0)
    return torch.stack((ends - counts - gaps, counts), -1).to(torch.int32)


class Drawn:
    """Samples of rays, of which some have none and some have many; a part of them is to be chosen."""

    def __init__(self, rays: int) -> None:
        random = torch.Generator().manual_seed(rays)
        many = torch.randint(0, 70, (rays,), generator=random)
        counts = many * (torch.rand(rays, generator=random) < 0.8)
        self.source_info = packed(counts, torch.randint(0, 3, (rays,), generator=random))
        self.size = int(self.source_info[-1].sum()) + 2 if rays else 0
        self.t_starts = torch.rand(self.size, generator=random) * 3 + 2
        self.t_ends = self.t_starts + torch.rand(self.size, generator=random) * 0.1
        self.sigmas = torch.randn(self.size, generator=random).exp() * 4 - 1
        self.rays_o, self.rays_d = torch.randn((2, rays, 3), generator=random)
        # more than there are, as many, and fewer; in an order of its own
        wanted = torch.randint(0, 90, (rays,), generator=random)
        order = torch.randperm(rays, generator=random)
        self.target_info = torch.empty_like(self.source_info)
        self.target_info[order] = packed(wanted[order], 1)
        self.room = int(wanted.sum()) + rays + 3


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
    assert got.ray_indices.dtype == torch.int32


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
    drawn = Drawn(300)
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
@RAYS
def test_gathered_samples_are_the_references(rays: int, mode: Mode) -> None:
    drawn = Drawn(rays)
    arguments = (drawn.rays_o, drawn.rays_d, drawn.t_starts, drawn.t_ends, drawn.source_info, drawn.target_info)
    got, want = gather(mode, *arguments, drawn.room), reference.visibility_gather(*arguments, drawn.room)
    assert torch.equal(got.ray_indices, want.ray_indices)
    assert torch.equal(got.t_starts, want.t_starts) and torch.equal(got.t_ends, want.t_ends)
    far = drawn.rays_o.abs().amax() + 6.0 * drawn.rays_d.abs().amax() if rays else 1.0
    close(got.positions, want.positions, "positions", 2.0 * EPS * far)  # a sum, two products, a sum: half an EPS each


@PLAIN_KERNEL_MODES
@RAYS
@pytest.mark.parametrize("eps", [0.0, 1e-4, 0.3])
def test_counts_are_the_references(eps: float, rays: int, mode: Mode) -> None:
    drawn = Drawn(rays)
    before = torch.rand(rays, generator=torch.Generator().manual_seed(1)) * 0.8 + 0.2
    counts, left = count(mode, drawn.sigmas, drawn.t_starts, drawn.t_ends, drawn.source_info, before, eps=eps)
    assert counts.dtype == torch.int32
    for ray, (first, size) in enumerate(drawn.source_info.tolist()):
        span = slice(first, first + size)
        tau = drawn.sigmas[span].double().clamp(min=0.0) * (drawn.t_ends[span] - drawn.t_starts[span])
        light = before[ray].double() * torch.exp(-torch.cat((torch.zeros(1), tau.cumsum(0))))
        limit = product(size, -light.log()) * light
        reached = int(counts[ray])
        assert reached == 0 or light[reached - 1] + limit[reached - 1] >= eps  # the last that is reached
        assert reached == size or light[reached] - limit[reached] < eps  # the first that is not
        close(left[ray], light[reached], "light", limit[reached])


@PLAIN_KERNEL_MODES
@RAYS
@pytest.mark.parametrize("columns", [1, 3, 16])
def test_copied_rows_are_the_references(columns: int, rays: int, mode: Mode) -> None:
    drawn = Drawn(rays)
    rows = torch.rand((drawn.size, columns), generator=torch.Generator().manual_seed(columns))
    before = torch.full((drawn.room, columns), -3.0)
    want = before.clone()
    reference.visibility_copy(rows, drawn.source_info, drawn.target_info, want)
    assert torch.equal(copy(mode, rows, drawn.source_info, drawn.target_info, before), want)


@PLAIN_KERNEL_MODES
def test_inputs_may_be_views(mode: Mode) -> None:
    drawn = Drawn(65)
    arguments = [drawn.rays_o, drawn.rays_d, drawn.t_starts, drawn.t_ends, drawn.source_info, drawn.target_info]
    spread = [torch.stack((torch.zeros_like(x), x), dim=-1)[..., 1] for x in arguments]
    for one, two in zip(gather(mode, *arguments, drawn.room), gather(mode, *spread, drawn.room), strict=True):
        assert torch.equal(one, two)
    ones = torch.ones(65)
    want = count(mode, drawn.sigmas, *arguments[2:5], ones, eps=0.1)
    dense = torch.stack((drawn.sigmas, drawn.sigmas), -1)[:, 0]
    assert all(torch.equal(a, b) for a, b in zip(count(mode, dense, *spread[2:5], ones, eps=0.1), want, strict=True))
    rows = torch.rand(2, drawn.size).t()
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
def test_metal_is_the_reference() -> None:
    drawn = Drawn(300)
    infos_ = drawn.source_info, drawn.target_info
    arguments = (drawn.rays_o, drawn.rays_d, drawn.t_starts, drawn.t_ends, *infos_)
    got, want = gather(METAL, *arguments, drawn.room), reference.visibility_gather(*arguments, drawn.room)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a.cpu(), b)
    counts, left = count(METAL, drawn.sigmas, *arguments[2:5], torch.ones(300), eps=0.0)
    assert torch.equal(counts.cpu(), drawn.source_info[:, 1])
    light = torch.ones(300)
    reference.visibility_count(drawn.sigmas, *arguments[2:5], light, early_stop_eps=0.0)
    torch.testing.assert_close(left.cpu(), light)
    rows, out = torch.rand(drawn.size, 5), torch.zeros(drawn.room, 5)
    again = copy(METAL, rows, *infos_, out)
    reference.visibility_copy(rows, *infos_, out)
    assert torch.equal(again.cpu(), out)
