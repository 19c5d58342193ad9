"""Benchmark of ``march_rays``. It has no backward pass: sample positions are constants to autograd."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.race import HOST, RAYS, SAMPLES, TORCH, Contest, Side, dense_bytes, time_side
from benchmarks.table import NOTES
from nerf_metal.ops import march_rays
from nerf_metal.reference.random import STREAM_MARCH, uniform

IDIOM = "idiom"
NEAR, FAR, SEED = 0.05, 10.0, 7
NOTES["march"] = (
    "A sample is an interval. Bytes per ray: 24 are read, 4 (S + 1) of edges and 9 of bounds are written. idiom: slab",
    "test, linspace and torch.rand. Sides are equal within 1e-4. The idiom is verified with the op's random numbers",
    "and timed with torch.rand.",
)


class Case(NamedTuple):
    samples: int
    spacing: str
    stratified: bool

    def __str__(self) -> str:
        return f"{RAYS} x {self.samples} {self.spacing}{' stratified' if self.stratified else ''}"


CASES = [Case(s, form, drawn) for s in SAMPLES for form in ("linear", "disparity") for drawn in (False, True)]


def idiom(
    rays_o: torch.Tensor,
    rays_d: torch.Tensor,
    aabb: torch.Tensor,
    case: Case,
    draw: Callable[[int, int], torch.Tensor],
) -> list[torch.Tensor]:
    """March without care for zero directions, and with random numbers from `draw`."""
    t0, t1 = (aabb[0] - rays_o) / rays_d, (aabb[1] - rays_o) / rays_d
    start = torch.minimum(t0, t1).amax(-1).clamp(min=NEAR)
    end = torch.maximum(t0, t1).amin(-1).clamp(max=FAR)
    hits = end > start
    start, end = torch.where(hits, start, NEAR)[:, None], torch.where(hits, end, NEAR)[:, None]
    s = torch.linspace(0.0, 1.0, case.samples + 1)
    if case.stratified:
        middles = 0.5 * (s[1:] + s[:-1])
        lower, upper = torch.cat((s[:1], middles)), torch.cat((middles, s[-1:]))
        s = lower + (upper - lower) * draw(len(rays_o), case.samples + 1)
    if case.spacing == "disparity":
        t = 1.0 / (1.0 / start * (1.0 - s) + 1.0 / end * s)
    else:
        t = start * (1.0 - s) + end * s
    return [t, start[:, 0], end[:, 0], hits]


def same_draw(rows: int, columns: int) -> torch.Tensor:
    return uniform(rows, columns, SEED, STREAM_MARCH, torch.device("cpu")).float()


def build(case: Case) -> Contest:
    torch.manual_seed(0)
    aabb = torch.tensor([[-1.5] * 3, [1.5] * 3])
    rays_o = torch.nn.functional.normalize(torch.randn(RAYS, 3), dim=-1) * 4.0
    rays_d = torch.nn.functional.normalize(torch.rand(RAYS, 3) * 3.0 - 1.5 - rays_o, dim=-1)  # some miss the box

    def op(backend: str) -> list[torch.Tensor]:
        samples = march_rays(
            rays_o,
            rays_d,
            aabb,
            case.samples,
            near=NEAR,
            far=FAR,
            stratified=case.stratified,
            seed=SEED,
            spacing=case.spacing,
            backend=backend,
        )
        return list(samples)

    run_idiom = functools.partial(idiom, rays_o, rays_d, aabb, case)
    return Contest(
        stem="march",
        case=str(case),
        sides={
            HOST: Side(lambda: op("host")),
            TORCH: Side(lambda: op("torch")),
            IDIOM: Side(lambda: run_idiom(torch.rand), check=lambda: run_idiom(same_draw)),
        },
        samples=RAYS * case.samples,
        bytes_moved=dense_bytes(rays_o, rays_d, *op("host")),
        bar=8.0,
        rtol=1e-4,
        atol=1e-4,
    )


def test_race(contest: Contest, race: Callable[[Contest], None]) -> None:
    race(contest)


@pytest.mark.benchmark(max_time=0.2)
@pytest.mark.parametrize("side", [HOST, TORCH, IDIOM])
def test_march(benchmark: BenchmarkFixture, contest: Contest, side: str) -> None:
    time_side(benchmark, contest, side)
