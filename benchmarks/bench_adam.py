"""Benchmark of ``adam_step`` on tables of which a batch touches a part, against torch's Adam on all entries."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.race import HOST, TORCH, Contest, Side, time_side
from benchmarks.table import NOTES
from nerf_metal.ops import adam_step

FUSED, FOREACH = "fused", "foreach"
LR, BETAS, EPS = 1e-2, (0.9, 0.99), 1e-15
RTOL, ATOL = 1e-6, 1e-7
STEP = 1000  # a step in the middle of a training run
FEATURES = 2  # numbers in a row of the table, which get gradients together
NOTES["adam"] = (
    "A sample is an element of the table. A dense step moves 32 bytes per element, because it also clears the",
    "gradient. A sparse step (which keeps the gradients, so that each call has the same) moves 28 bytes for each",
    "element with a gradient and 4 for each other element, whose gradient it must read. The least cost is therefore an",
    "eighth of a dense step; scattered rows cost whole cache lines. fused, foreach: torch.optim.Adam, which steps",
    "every element. Sides are equal within 1e-6 of a value + 1e-7, where there is a gradient.",
)


class Case(NamedTuple):
    elements: int
    share: float
    how: str  # dense, clustered, scattered

    def __str__(self) -> str:
        touched = "dense" if self.how == "dense" else f"{self.share * 100:g} % {self.how}"
        return f"{self.elements // 10**6} M, {touched}"


SHARES = [(share, how) for share in (0.1, 0.01, 0.001) for how in ("clustered", "scattered")]
CASES = [
    Case(elements, share, how)
    for elements in (6_000_000, 50_000_000)
    for share, how in ((1.0, "dense"), (1.0, "clustered"), *SHARES)
]


def gradient(case: Case) -> torch.Tensor:
    """Make a gradient that is not 0 in a share of the rows: scattered at random, or in one piece."""
    rows = case.elements // FEATURES
    touched = torch.zeros(rows, 1)
    if case.how == "scattered":
        touched[torch.rand(rows) < case.share] = 1.0
    else:
        touched[: round(rows * case.share)] = 1.0
    return (torch.randn(rows, FEATURES) * touched).flatten()


class Ours:
    """A table that is stepped by ``adam_step`` with one backend."""

    def __init__(self, case: Case, start: list[torch.Tensor], grad: torch.Tensor, backend: str) -> None:
        self.state = [x.clone() for x in start]
        self.grad = grad.clone()
        self.dense, self.backend = case.how == "dense", backend

    def step(self) -> list[torch.Tensor]:
        """Do one step. It returns nothing to compare, because the next call starts from another state."""
        param, exp_avg, exp_avg_sq = self.state
        adam_step(
            param,
            self.grad,
            exp_avg,
            exp_avg_sq,
            step=STEP,
            lr=LR,
            beta1=BETAS[0],
            beta2=BETAS[1],
            eps=EPS,
            sparse=not self.dense,
            clear_grad=self.dense,
            backend=self.backend,
        )
        return []


class Theirs:
    """A table that is stepped by ``torch.optim.Adam``."""

    def __init__(self, case: Case, start: list[torch.Tensor], grad: torch.Tensor, kind: str) -> None:
        self.state = [x.clone() for x in start]
        param, exp_avg, exp_avg_sq = self.state
        param.requires_grad_()
        param.grad = grad.clone()
        self.dense = case.how == "dense"
        options = {"fused": True} if kind == FUSED else {"foreach": True}
        self.optimizer = torch.optim.Adam([param], lr=LR, betas=BETAS, eps=EPS, **options)
        count = torch.tensor(float(STEP - 1))
        self.optimizer.state[param] = {"step": count, "exp_avg": exp_avg, "exp_avg_sq": exp_avg_sq}

    def step(self) -> list[torch.Tensor]:
        """Do one step, and clear the gradient if ``adam_step`` clears it."""
        self.optimizer.step()
        if self.dense:
            self.optimizer.zero_grad(set_to_none=False)
        return []


def check_equal(sides: dict[str, Ours | Theirs], touched: torch.Tensor) -> None:
    """Check that one step of each side from the same state is equal, where torch's step should be."""
    for side in sides.values():
        side.step()
    for name, side in sides.items():
        for mine, reference in zip(side.state, sides[TORCH].state, strict=True):
            equal = torch.allclose(mine[touched], reference[touched], rtol=RTOL, atol=ATOL)
            assert equal, f"{name} is not the reference"


def build(case: Case) -> Contest:
    torch.manual_seed(0)
    grad = gradient(case)
    touched = grad != 0
    start = [torch.randn(case.elements), torch.randn(case.elements) * 0.1, torch.rand(case.elements)]
    sides: dict[str, Ours | Theirs] = {side: Ours(case, start, grad, side) for side in (HOST, TORCH)}
    sides |= {side: Theirs(case, start, grad, side) for side in (FUSED, FOREACH)}
    check_equal(sides, touched)
    count = int(touched.sum())
    return Contest(
        stem="adam",
        case=str(case),
        sides={name: Side(side.step) for name, side in sides.items()},
        samples=case.elements,
        bytes_moved=32 * case.elements if case.how == "dense" else 28 * count + 4 * (case.elements - count),
        bar=8.0,
        rtol=RTOL,
        atol=ATOL,
    )


def test_race(contest: Contest, race: Callable[[Contest], None]) -> None:
    race(contest)


@pytest.mark.benchmark(max_time=0.2)
@pytest.mark.parametrize("side", [HOST, TORCH, FUSED, FOREACH])
def test_adam(benchmark: BenchmarkFixture, contest: Contest, side: str) -> None:
    time_side(benchmark, contest, side)
