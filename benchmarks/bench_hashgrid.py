"""Benchmark of ``hashgrid_encode``: forward, backward to the table, and the cost of its reads alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.race import HOST, TORCH, Contest, Side, dense_bytes, time_side
from benchmarks.random_reads import compiler, random_reads
from benchmarks.table import NOTES
from nerf_metal.ops import hashgrid_encode, hashgrid_levels

READS = "reads"
POINTS = 2**16
RAY_POINTS = 128
CORNERS = 8
BASE, FINEST = 16, 2048
NOTES["hashgrid"] = (
    "A sample is a point. Forward reads the positions and each entry of the table once and writes the features.",
    "Backward reads the gradients of the features and adds to an existing gradient of the table. Sides are equal",
    "within 2e-3: with 2048 cells along an axis, float32 knows a place to 2e-4 of a cell, and entries are random.",
    "reads: as many reads of random rows, 8 for each point and level, of the same levels. The goal for its ratio is",
    "0.7 forward and 0.4 backward.",
    *(() if compiler() else ("No C++ compiler was found, so reads are left out.",)),
)


class Case(NamedTuple):
    levels: int
    features: int
    log2_size: int
    places: str
    backward: bool

    def __str__(self) -> str:
        return f"{self.levels} x {self.features} 2^{self.log2_size} {self.places}{' back' if self.backward else ''}"


CASES = [
    Case(*grid, places, backward)
    for grid in ((8, 4, 18), (16, 2, 19))
    for places in ("random", "rays")
    for backward in (False, True)
]


def points(places: str) -> torch.Tensor:
    """Draw points in the unit box: at random, or as samples along rays through it, ``[POINTS, 3]``."""
    if places == "random":
        return torch.rand(POINTS, 3)
    start, end = torch.rand(2, POINTS // RAY_POINTS, 1, 3)
    along = torch.linspace(0.0, 1.0, RAY_POINTS)[None, :, None]
    return (start + along * (end - start)).view(-1, 3)


def build(case: Case) -> Contest:
    torch.manual_seed(0)
    levels = hashgrid_levels(case.levels, BASE, FINEST, case.log2_size)
    positions = points(case.places)
    table = torch.rand(int(levels[-1, 1] + levels[-1, 2]), case.features)
    grad = torch.rand(POINTS, case.levels * case.features)
    leaf, given = table.clone().requires_grad_(), torch.zeros_like(table)
    # the reference returns its gradient, as autograd does
    graphs = {
        HOST: hashgrid_encode(positions, leaf, levels, grad_table=given, backend="host"),
        TORCH: hashgrid_encode(positions, leaf, levels, backend="torch"),
    }

    def op(backend: str) -> list[torch.Tensor]:
        if not case.backward:
            return [hashgrid_encode(positions, table, levels, backend=backend)]
        if backend == TORCH:
            return list(torch.autograd.grad(graphs[backend], leaf, grad, retain_graph=True))
        graphs[backend].backward(grad, retain_graph=True)
        return [given]

    def afresh() -> list[torch.Tensor]:
        given.zero_()
        return op(HOST)

    sides = {HOST: Side(lambda: op(HOST), check=afresh), TORCH: Side(lambda: op(TORCH))}
    if compiler():
        parts = [(first, size) for _, first, size, _ in levels.tolist()]
        sides[READS] = Side(random_reads(table, parts, CORNERS * POINTS), check=afresh)
    return Contest(
        stem="hashgrid",
        case=str(case),
        sides=sides,
        samples=POINTS,
        bytes_moved=dense_bytes(positions, table, grad) + (dense_bytes(table) if case.backward else 0),
        bar=8.0,
        rtol=1e-4,
        atol=2e-3,
    )


def test_race(contest: Contest, race: Callable[[Contest], None]) -> None:
    race(contest)


@pytest.mark.benchmark(max_time=0.2)
@pytest.mark.parametrize("side", [HOST, TORCH])
def test_hashgrid(benchmark: BenchmarkFixture, contest: Contest, side: str) -> None:
    time_side(benchmark, contest, side)
