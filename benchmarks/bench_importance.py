"""Benchmark of ``sample_importance`` with the 128 fine samples of NeRF. It has no backward pass."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.race import HOST, RAYS, SAMPLES, TORCH, Contest, Side, dense_bytes, time_side
from benchmarks.table import NOTES
from nerf_metal.ops import sample_importance
from nerf_metal.reference.random import STREAM_IMPORTANCE, uniform

IDIOM = "idiom"
FINE, SEED = 128, 7
NOTES["importance"] = (
    "A sample is one of the S + N intervals of the union. Bytes per ray: 4 (S + 1) of edges and 4 S of weights are",
    "read, 4 (S + 1 + N) of the union are written. idiom: cumsum, searchsorted, gather, cat and sort, as usual for",
    "NeRFs in torch; the reference uses neither search nor sort. Sides are equal within 1e-3, with intervals of length",
    "4 / S. The idiom is verified with the op's random numbers and timed with torch.rand.",
)


class Case(NamedTuple):
    samples: int
    stratified: bool

    def __str__(self) -> str:
        return f"{RAYS} x {self.samples} + {FINE}{' stratified' if self.stratified else ''}"


CASES = [Case(samples, stratified) for samples in SAMPLES for stratified in (False, True)]


def idiom(
    t_edges: torch.Tensor, weights: torch.Tensor, case: Case, draw: Callable[[int, int], torch.Tensor]
) -> list[torch.Tensor]:
    """Invert the cumulative distribution by search, then sort the union."""
    mass = weights + 1e-5
    cdf = torch.nn.functional.pad((mass / mass.sum(-1, keepdim=True)).cumsum(-1), (1, 0))
    rows = len(weights)
    jitter = draw(rows, FINE) if case.stratified else torch.full((rows, FINE), 0.5)
    u = (torch.arange(FINE) + jitter) / FINE
    after = torch.searchsorted(cdf, u, right=True).clamp(max=case.samples)
    before = after - 1
    low, high = cdf.gather(1, before), cdf.gather(1, after)
    start, end = t_edges.gather(1, before), t_edges.gather(1, after)
    drawn = start + (u - low) / (high - low) * (end - start)
    return [torch.cat((t_edges, drawn), -1).sort(-1).values]


def same_draw(rows: int, columns: int) -> torch.Tensor:
    return uniform(rows, columns, SEED, STREAM_IMPORTANCE, torch.device("cpu")).float()


def build(case: Case) -> Contest:
    torch.manual_seed(0)
    t_edges = torch.linspace(2.0, 6.0, case.samples + 1).repeat(RAYS, 1)
    middles = 0.5 * (t_edges[:, 1:] + t_edges[:, :-1])
    surface = 2.5 + 3.0 * torch.rand(RAYS, 1)  # one bump per ray, as a trained coarse pass gives
    weights = torch.exp(-0.5 * ((middles - surface) / 0.2) ** 2) * torch.rand_like(middles)
    # Thin fog around it: with almost no mass, float32 cannot tell where in an interval a quantile lies.
    weights = weights / weights.sum(-1, keepdim=True) + 0.02 / case.samples

    def op(backend: str) -> list[torch.Tensor]:
        return [sample_importance(t_edges, weights, FINE, stratified=case.stratified, seed=SEED, backend=backend)]

    run_idiom = functools.partial(idiom, t_edges, weights, case)
    return Contest(
        stem="importance",
        case=str(case),
        sides={
            HOST: Side(lambda: op("host")),
            TORCH: Side(lambda: op("torch")),
            IDIOM: Side(lambda: run_idiom(torch.rand), check=lambda: run_idiom(same_draw)),
        },
        samples=RAYS * (case.samples + FINE),
        bytes_moved=dense_bytes(t_edges, weights, *op("host")),
        bar=8.0,
        rtol=0.0,
        atol=1e-3,
    )


def test_race(contest: Contest, race: Callable[[Contest], None]) -> None:
    race(contest)


@pytest.mark.benchmark(max_time=0.2, min_rounds=3)
@pytest.mark.parametrize("side", [HOST, TORCH, IDIOM])
def test_importance(benchmark: BenchmarkFixture, contest: Contest, side: str) -> None:
    time_side(benchmark, contest, side)
