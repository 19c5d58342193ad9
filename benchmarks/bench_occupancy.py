"""Benchmark of the ops of the occupancy grid: the cost of an update without the densities."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.race import HOST, TORCH, Contest, Side, dense_bytes, time_side
from benchmarks.table import NOTES
from nerf_metal import ops
from nerf_metal.reference import pack_bits

IDIOM = "idiom"
RESOLUTION = 128
CELLS = 2**17  # cells of an update; the reference makes 16 tries for each at once
NOTES["occupancy"] = (
    "The grid has 128^3 cells; 4 % are occupied, and an update evaluates 131072. A sample is an evaluated cell, in",
    "pack any cell. idiom: torch.randint, torch.rand and, for the occupied half, nonzero; scatter_reduce; a sum of",
    "shifted bits. Sides are equal within 1e-6 relative; the idiom for cells draws other numbers and is not compared.",
)
CASES = ["cells, half occupied", "cells in order", "update", "pack"]


def cells_idiom(bits: torch.Tensor, aabb: torch.Tensor) -> list[torch.Tensor]:
    mask = ((bits[:, None] >> torch.arange(32, dtype=torch.int32)) & 1).flatten()
    occupied = mask.nonzero()[:, 0]
    chosen = torch.cat(
        (
            torch.randint(RESOLUTION**3, (CELLS // 2,)),
            occupied[torch.randint(len(occupied), (CELLS // 2,))],
        )
    )
    side = torch.stack((chosen, chosen // RESOLUTION, chosen // RESOLUTION**2), dim=-1) % RESOLUTION
    return [chosen, aabb[0] + (side + torch.rand(CELLS, 3)) * ((aabb[1] - aabb[0]) / RESOLUTION)]


def build(case: str) -> Contest:
    torch.manual_seed(0)
    total = RESOLUTION**3
    aabb = torch.tensor([[-1.0] * 3, [1.0] * 3])
    bits = pack_bits(torch.rand(total) < 0.04)
    density, values = torch.rand(total), torch.rand(CELLS)
    cells = torch.randint(total, (CELLS,), dtype=torch.int32)

    def choose(backend: str, uniform: int, occupied: int, first: int | None) -> Sequence[torch.Tensor]:
        return ops.occupancy_cells(
            bits, aabb, uniform, occupied, resolution=RESOLUTION, first_cell=first, backend=backend
        )

    def update(backend: str) -> list[torch.Tensor]:
        ops.occupancy_update(density, cells, values, decay=1.0, backend=backend)  # decay 1: the same after every call
        return [density]

    def update_idiom() -> list[torch.Tensor]:
        return [density.mul_(1.0).scatter_reduce_(0, cells.long(), values, "amax")]

    def pack(backend: str) -> list[torch.Tensor]:
        return [ops.occupancy_pack(density, 0.3, backend=backend)]

    def pack_idiom() -> list[torch.Tensor]:
        mask = density > density.mean().clamp(max=0.3)
        return [(mask.view(-1, 32) * (1 << torch.arange(32))).sum(-1).int()]

    calls: dict[str, tuple[Callable[[str], Sequence[torch.Tensor]], Callable[[], Sequence[torch.Tensor]] | None]] = {
        CASES[0]: (functools.partial(choose, uniform=CELLS // 2, occupied=CELLS // 2, first=None), None),
        CASES[1]: (functools.partial(choose, uniform=CELLS, occupied=0, first=5), None),
        CASES[2]: (update, update_idiom),
        CASES[3]: (pack, pack_idiom),
    }
    call, other = calls[case]
    sides = {name: Side(functools.partial(call, name)) for name in (HOST, TORCH)}
    if other is not None:
        sides[IDIOM] = Side(other)
    elif case == CASES[0]:
        sides[IDIOM] = Side(lambda: cells_idiom(bits, aabb), check=sides[TORCH].call)
    moved = {CASES[2]: (density, density, cells, values), CASES[3]: (density, bits)}
    return Contest(
        stem="occupancy",
        case=case,
        sides=sides,
        samples=total if case == CASES[3] else CELLS,
        bytes_moved=dense_bytes(*moved.get(case, call(HOST))),
        bar=1.0,  # an update is mostly the field's own densities: no slower than torch is enough
        rtol=1e-6,
        atol=1e-6,
    )


def test_race(contest: Contest, race: Callable[[Contest], None]) -> None:
    race(contest)


@pytest.mark.benchmark(max_time=0.2)
@pytest.mark.parametrize("side", [HOST, TORCH, IDIOM])
def test_occupancy(benchmark: BenchmarkFixture, contest: Contest, side: str) -> None:
    if side not in contest.sides:
        pytest.skip(f"{contest.case} has no {side}")
    time_side(benchmark, contest, side)
