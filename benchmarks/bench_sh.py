"""Benchmark of ``spherical_harmonics``: forward, and backward to the directions."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.race import HOST, KERNEL, TORCH, Contest, Side, dense_bytes, time_side
from benchmarks.table import NOTES
from nerf_metal import kernels
from nerf_metal.ops import spherical_harmonics

POINTS = 2**18  # samples of a training batch
NOTES["sh"] = (
    "A sample is a direction. Bytes: 12 are read and 4 degree^2 written; backward 12 + 4 degree^2 are read and 12",
    "written. Backward times the gradient alone: the forward graph is kept. Sides are equal within 1e-5.",
)


class Case(NamedTuple):
    degree: int
    backward: bool

    def __str__(self) -> str:
        return f"degree {self.degree}{', backward' if self.backward else ''}"


CASES = [Case(degree, backward) for degree in (2, 3, 4) for backward in (False, True)]


def build(case: Case) -> Contest:
    torch.manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(POINTS, 3), dim=-1)
    grad = torch.randn(POINTS, case.degree**2)
    leaf = directions.clone().requires_grad_()
    graphs = {side: spherical_harmonics(leaf, case.degree, backend=side) for side in ("host", "torch")}
    out = torch.empty_like(directions if case.backward else grad)
    params = {"n_directions": POINTS, "degree": case.degree, "directions_per_thread": 256}

    def op(backend: str) -> list[torch.Tensor]:
        if case.backward:
            return list(torch.autograd.grad(graphs[backend], leaf, grad, retain_graph=True))
        return [spherical_harmonics(directions, case.degree, backend=backend)]

    def kernel() -> list[torch.Tensor]:
        name, read = ("sh_backward_f32", [directions, grad]) if case.backward else ("sh_forward_f32", [directions])
        kernels.launch(name, [*read, out], params, (POINTS // 256,), backend="host")
        return [out]

    return Contest(
        stem="sh",
        case=str(case),
        sides={HOST: Side(lambda: op("host")), TORCH: Side(lambda: op("torch")), KERNEL: Side(kernel)},
        samples=POINTS,
        bytes_moved=dense_bytes(directions, grad) + (dense_bytes(directions) if case.backward else 0),
        bar=8.0 if case.degree == 4 else 3.0,  # below degree 4 both sides mostly wait for memory
        rtol=1e-5,
        atol=1e-5,
    )


def test_race(contest: Contest, race: Callable[[Contest], None]) -> None:
    race(contest)


@pytest.mark.benchmark(max_time=0.2)
@pytest.mark.parametrize("side", [HOST, TORCH])
def test_sh(benchmark: BenchmarkFixture, contest: Contest, side: str) -> None:
    time_side(benchmark, contest, side)
