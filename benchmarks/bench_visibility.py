"""Benchmark of the visibility ops, which keep the visible samples of a training step. They have no backward pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.race import HOST, TORCH, Contest, Side, dense_bytes, time_side
from benchmarks.table import NOTES
from nerf_metal import ops

IDIOM = "idiom"
RAYS = 8192
COLUMNS = 32  # numbers per row: the features of the hash grid
EPS = 1e-4
NOTES["visibility"] = (
    "There are 8192 rays with 0 to 31 samples each. copy moves 32 numbers for each sample. idiom: repeat_interleave",
    "and index_select; for count, the exclusive cumprod of a padded matrix. Sides are equal within 1e-5.",
)
CASES = ["gather", "count", "copy"]


def index(info: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the index and the ray of each sample, int64 ``[S]``."""
    counts = info[:, 1].long()
    rays = torch.repeat_interleave(counts)
    return info[:, 0].index_select(0, rays) + torch.arange(len(rays)) - (counts.cumsum(0) - counts)[rays], rays


def build(case: str) -> Contest:
    torch.manual_seed(0)
    counts = torch.randint(0, 32, (RAYS,), dtype=torch.int32)
    info = torch.stack((counts.cumsum(0, dtype=torch.int32) - counts, counts), -1)
    samples = int(counts.sum())
    t_starts, sigmas = torch.rand(samples), torch.rand(samples) * 40.0
    t_ends = t_starts + 0.02
    rays_o, rays_d = torch.rand(2, RAYS, 3)
    rows, out = torch.rand(2, samples, COLUMNS)

    def gather(backend: str) -> Sequence[torch.Tensor]:
        return ops.visibility_gather(rays_o, rays_d, t_starts, t_ends, info, info, samples, backend=backend)

    def gather_idiom() -> Sequence[torch.Tensor]:
        at, rays = index(info)
        starts, ends = t_starts.index_select(0, at), t_ends.index_select(0, at)
        middles = 0.5 * (starts + ends)
        positions = torch.addcmul(rays_o.index_select(0, rays), middles[:, None], rays_d.index_select(0, rays))
        return [rays.int(), starts, ends, positions]

    def count(backend: str) -> Sequence[torch.Tensor]:
        light = torch.ones(RAYS)
        reached = ops.visibility_count(sigmas, t_starts, t_ends, info, light, early_stop_eps=EPS, backend=backend)
        return [reached, light]

    def count_idiom() -> Sequence[torch.Tensor]:
        at, rays = index(info)
        keep = torch.ones(RAYS, 33)
        keep[rays, 1 + at - info[:, 0].index_select(0, rays)] = torch.exp(-sigmas * (t_ends - t_starts))
        light = keep.cumprod(-1)
        reached = ((light[:, :-1] >= EPS).sum(-1)).clamp(max=counts)
        return [reached.int(), light.gather(1, reached[:, None])[:, 0]]

    def copy(backend: str) -> Sequence[torch.Tensor]:
        ops.visibility_copy(rows, info, info, out, backend=backend)
        return [out]

    def copy_idiom() -> Sequence[torch.Tensor]:
        return [rows.index_select(0, index(info)[0])]

    call, idiom = {"gather": (gather, gather_idiom), "count": (count, count_idiom), "copy": (copy, copy_idiom)}[case]
    moved = {
        "gather": (rays_o, rays_d, info, info, t_starts, t_ends, *gather(HOST)),
        "count": (sigmas, t_starts, t_ends, info, counts, counts),
        "copy": (rows, out, info, info),
    }
    return Contest(
        stem="visibility",
        case=case,
        sides={HOST: Side(lambda: call(HOST)), TORCH: Side(lambda: call(TORCH)), IDIOM: Side(idiom)},
        samples=samples,
        bytes_moved=dense_bytes(*moved[case]),
        bar=1.0,  # they must not be slower than what they replace
        rtol=1e-5,
        atol=1e-5,
    )


def test_race(contest: Contest, race: Callable[[Contest], None]) -> None:
    race(contest)


@pytest.mark.benchmark(max_time=0.2)
@pytest.mark.parametrize("side", [HOST, TORCH, IDIOM])
def test_visibility(benchmark: BenchmarkFixture, contest: Contest, side: str) -> None:
    time_side(benchmark, contest, side)
