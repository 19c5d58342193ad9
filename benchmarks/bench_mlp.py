"""Benchmark of ``mlp``, forward and backward, against the fastest matrix product and against torch's layers."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.race import HOST, TORCH, Contest, Limit, Side, dense_bytes, time_side
from benchmarks.table import NOTES
from nerf_metal.ops import mlp

ROWS = 65536  # samples of a small training batch
SQUARE = 2048  # side of the matrices of torch.mm; 4096 is not faster within the noise
NOTES["mlp"] = (
    "A sample is a row. There are no biases. GFLOP: 2 * in * out for each layer forward, twice as many backward (for",
    "the gradients of the weights and of the layer's input). What is recomputed or padded does not count. of mm: the",
    f"share of the rate of torch.mm with {SQUARE}x{SQUARE} float32. torch: torch's layers, which keep activations",
    "for the backward pass. Sides are equal within 1e-4 relative + 1e-5 absolute, gradients within 1e-3 + 1e-3.",
)


class Case(NamedTuple):
    widths: tuple[int, ...]
    passes: str  # forward, backward, both

    def __str__(self) -> str:
        return f"{'-'.join(map(str, self.widths))}, {self.passes}"


# instant-ngp's two networks, and one without narrow ends.
NETWORKS = ((32, 64, 16), (32, 64, 64, 3), (64, 64, 64, 64))
PASSES = {
    "forward": (1, 0.5),
    "backward": (2, 0.4),
    "both": (3, 0.4),
}  # products per layer, goal of torch.mm
CASES = [Case(widths, passes) for widths in NETWORKS for passes in PASSES]


@functools.cache
def squares() -> tuple[torch.Tensor, ...]:
    """Return the two factors of the large product, and room for the result."""
    return tuple(torch.randn(SQUARE, SQUARE) for _ in range(3))


def build(case: Case) -> Contest:
    torch.manual_seed(0)
    pairs = list(itertools.pairwise(case.widths))
    x = torch.randn(ROWS, case.widths[0], requires_grad=True)
    weights = [(torch.randn(out, into) * (2.0 / into) ** 0.5).requires_grad_() for into, out in pairs]
    # scaled like a mean over the rows, so that the gradients of the weights are of usual size
    grad = torch.randn(ROWS, case.widths[-1]) / ROWS**0.5
    activation = "sigmoid" if case.widths[-1] == 3 else "none"
    op = functools.partial(mlp, x, weights, output_activation=activation)
    graphs = {side: op(backend=side) for side in ("host", "torch")}
    left, right, room = squares()

    def run(backend: str) -> list[torch.Tensor]:
        if case.passes == "both":
            return list(torch.autograd.grad(op(backend=backend), [x, *weights], grad))
        if case.passes == "backward":
            return list(torch.autograd.grad(graphs[backend], [x, *weights], grad, retain_graph=True))
        with torch.no_grad():
            return [op(backend=backend)]

    products, goal = PASSES[case.passes]
    backward = products > 1
    forward = 2 * ROWS * sum(into * out for into, out in pairs)
    moved = [x, grad, *weights]
    return Contest(
        stem="mlp",
        case=str(case),
        sides={HOST: Side(lambda: run("host")), TORCH: Side(lambda: run("torch"))},
        samples=ROWS,
        bytes_moved=dense_bytes(*moved) + (dense_bytes(x, *weights) if backward else 0),
        bar=3.0,
        rtol=1e-3 if backward else 1e-4,
        atol=1e-3 if backward else 1e-5,
        limit=Limit(
            name="of mm",
            call=lambda: torch.mm(left, right, out=room),
            operations=2 * SQUARE**3,
            host_operations=products * forward,
            goal=goal,
        ),
    )


def test_race(contest: Contest, race: Callable[[Contest], None]) -> None:
    race(contest)


@pytest.mark.benchmark(max_time=0.2)
@pytest.mark.parametrize("side", [HOST, TORCH])
def test_mlp(benchmark: BenchmarkFixture, contest: Contest, side: str) -> None:
    time_side(benchmark, contest, side)
