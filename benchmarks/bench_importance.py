"""``sample_importance`` with NeRF's 128 fine samples. It has no backward: the fine positions are constants."""

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
    "A sample is an interval of the union, S + N of them. Bytes a ray: edges 4 (S + 1) and weights 4 S read,",
    "union 4 (S + 1 + N) written. idiom: cumsum, searchsorted, gather, cat and sort, as NeRFs on torch do; the",
    "reference may use neither search nor sort. Equal within 1e-3, intervals being 4 / S long (verified with our",
    "random numbers, timed with torch.rand).",
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
    """Invert the cumulative function by search, then sort the union."""
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
    surface = 2.5 + 3.0 * torch.rand(RAYS, 1)  # one bump a ray, as a trained coarse pass gives
    weights = torch.exp(-0.5 * ((middles - surface) / 0.2) ** 2) * torch.rand_like(middles)
    # Thin fog around it: where there is next to no mass, float32 cannot say where in an interval a quantile lies.
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
