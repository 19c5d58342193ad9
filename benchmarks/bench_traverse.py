"""Benchmark of ``traverse_grid``: rays through a shell of occupied cells. It has no backward pass."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.race import HOST, TORCH, Contest, Side, dense_bytes, time_side
from benchmarks.table import NOTES
from nerf_metal.ops import traverse_grid
from nerf_metal.reference import TraversedRays, pack_bits, unpack_bits

IDIOM = "idiom"
RAYS = 8000
RESOLUTION = 128
STEP = math.sqrt(3) * 2.0 / 1024  # as in instant-ngp: 1024 steps along the diagonal of the box
NOTES["traverse"] = (
    "There are 8000 rays and 128^3 cells; the step is sqrt(3) side / 1024. A sample is here one unit of work of a",
    "march: an emitted sample or a jump over empty cells, counted without the kernels; with growing steps, an",
    "emitted sample or a skipped step. The goal is 50 ns at most. The host marches twice, to count and to write, and",
    "both count. idiom: look up all 1024 steps of every ray at once and pick the occupied ones. Sides are equal in the",
    "number of samples and in sums of t within 1e-4 (they may differ where the middle of a step lies on a border).",
)


class Case(NamedTuple):
    name: str
    share: float  # thickness of the shell in half sides
    cascades: int = 1
    cone_angle: float = 0.0

    def __str__(self) -> str:
        return self.name


CASES = [
    Case("shell, 4 % occupied", 0.042),
    Case("ball, 27 % occupied", 0.8),
    Case("3 cascades, even steps", 0.042, 3),
    Case("3 cascades, cone 1/256", 0.042, 3, 1 / 256),
]


def shell(thickness: float, cascades: int) -> torch.Tensor:
    """Return the bits of the cells of a shell: from radius 0.8 - ``thickness`` to 0.8, in half sides."""
    axis = (torch.arange(RESOLUTION) + 0.5) * (2.0 / RESOLUTION) - 1.0
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    radius = (x * x + y * y + z * z).sqrt().flatten()
    return pack_bits(torch.cat([(radius * 2**k < 0.8) & (radius * 2**k > 0.8 - thickness) for k in range(cascades)]))


@functools.cache
def shot() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return rays from cameras around the box towards it, and the box."""
    torch.manual_seed(0)
    rays_o = torch.nn.functional.normalize(torch.randn(RAYS, 3), dim=-1) * 4.0
    rays_d = torch.nn.functional.normalize(torch.rand(RAYS, 3) * 1.6 - 0.8 - rays_o, dim=-1)
    return rays_o, rays_d, torch.tensor([[-1.0] * 3, [1.0] * 3])


def idiom(rays_o: torch.Tensor, rays_d: torch.Tensor, aabb: torch.Tensor, bits: torch.Tensor) -> TraversedRays:
    """March every step of every ray at once, for one cascade."""
    t0, t1 = (aabb[0] - rays_o) / rays_d, (aabb[1] - rays_o) / rays_d
    start = torch.minimum(t0, t1).amax(-1).clamp(min=0.0)
    end = torch.maximum(t0, t1).amin(-1)
    t = start[:, None] + torch.arange(1025) * STEP
    middle = t + 0.5 * STEP
    place = rays_o[:, None] + middle[..., None] * rays_d[:, None]
    cell = ((place - aabb[0]) / (aabb[1] - aabb[0]) * RESOLUTION).long().clamp(0, RESOLUTION - 1)
    index = cell[..., 0] + RESOLUTION * (cell[..., 1] + RESOLUTION * cell[..., 2])
    found = ((bits[index >> 5] >> (index & 31)) & 1 > 0) & (middle < end[:, None])
    rays, steps = found.nonzero(as_tuple=True)
    starts = t[rays, steps]
    counts = found.sum(-1)
    info = torch.stack((counts.cumsum(0) - counts, counts), dim=-1)
    return TraversedRays(info.int(), rays.int(), starts, starts + STEP)


def march(case: Case, bits: torch.Tensor, backend: str) -> TraversedRays:
    return traverse_grid(
        *shot(),
        bits,
        resolution=RESOLUTION,
        cascades=case.cascades,
        step_size=STEP,
        cone_angle=case.cone_angle,
        backend=backend,
    )


def jumps(case: Case, bits: torch.Tensor) -> int:
    """Count the jumps over empty cells, or with growing steps the skipped steps, by the kernels' rule in float64."""
    if case.cone_angle > 0:
        return len(march(case, torch.full_like(bits, -1), HOST).t_starts) - len(march(case, bits, HOST).t_starts)
    rays_o, rays_d = (x.double() for x in shot()[:2])
    occupied = unpack_bits(bits).view(case.cascades, *[RESOLUTION] * 3)
    blocks = torch.nn.functional.max_pool3d(occupied[:, None].float(), 4)[:, 0] > 0
    half, reach = 0.5 * RESOLUTION, 2.0 ** (case.cascades - 1)
    t0, t1 = (-reach - rays_o) / rays_d, (reach - rays_o) / rays_d
    t = torch.minimum(t0, t1).amax(-1)
    end = torch.maximum(t0, t1).amin(-1)
    count = 0
    while len(t):
        place = rays_o + (t + 0.5 * STEP)[:, None] * rays_d
        cascade = torch.frexp(place.abs().amax(-1)).exponent.clamp(0, case.cascades - 1)
        scale = 2.0 ** cascade[:, None]
        cell = ((place / scale + 1) * half).long().clamp(0, RESOLUTION - 1)
        x, y, z = cell.unbind(-1)
        full = occupied[cascade.long(), z, y, x]
        size = torch.where(blocks[cascade.long(), z // 4, y // 4, x // 4], 1, 4)[:, None]
        border = (torch.where(rays_d > 0, cell // size + 1, cell // size) * size / half - 1) * scale
        leave = ((border - rays_o) / rays_d).amin(-1)
        count += int((~full).sum())
        t = t + STEP * ((leave - t) / STEP - 0.5).ceil().clamp(min=1)
        kept = t + 0.5 * STEP < end
        t, end, rays_o, rays_d = t[kept], end[kept], rays_o[kept], rays_d[kept]
    return count


def build(case: Case) -> Contest:
    bits = shell(case.share, case.cascades)

    def sums(run: Callable[[], TraversedRays]) -> list[torch.Tensor]:
        found = run()
        return [torch.tensor(float(len(found.t_starts))), found.t_starts.sum(), found.t_ends.sum()]

    calls = {name: functools.partial(march, case, bits, name) for name in (HOST, TORCH)}
    if case.cascades == 1:
        calls[IDIOM] = functools.partial(idiom, *shot(), bits)
    found = march(case, bits, HOST)
    return Contest(
        stem="traverse",
        case=str(case),
        sides={name: Side(call, check=functools.partial(sums, call)) for name, call in calls.items()},
        samples=len(found.t_starts) + jumps(case, bits),
        bytes_moved=dense_bytes(*shot(), bits, *found),
        bar=8.0,
        rtol=1e-4,
        atol=0.0,
    )


def test_race(contest: Contest, race: Callable[[Contest], None]) -> None:
    race(contest)


@pytest.mark.benchmark(max_time=0.2)
@pytest.mark.parametrize("side", [HOST, TORCH])
def test_traverse(benchmark: BenchmarkFixture, contest: Contest, side: str) -> None:
    time_side(benchmark, contest, side)
