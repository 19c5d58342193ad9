"""Races: the same work done by several sides in one process, verified equal, then timed turn by turn.

The figure of a race is the median over its rounds of (other side / host): both turns of a round meet the same
noise of the machine, which two runs do not. The nanoseconds are each side's best round. Where arithmetic is the limit,
other work that shows what the processor can do takes its turns as well.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.machine import clock

Call = Callable[[], Sequence[torch.Tensor]]

HOST, TORCH, KERNEL = "host", "torch", "kernel only"
RAYS = 4096
SAMPLES = (64, 192)  # NeRF's coarse pass, and its fine one

_TURN_SECONDS = 0.008  # long against the clock and the waking of threads
_SETTLE_SECONDS = 0.01  # OpenMP's threads spin for some 3 ms after their last work, and take the processor from others
_RACE_SECONDS = 1.5
_LEAST_ROUNDS, _MOST_ROUNDS = 5, 21


@dataclass(frozen=True)
class Side:
    """One way to do the work.

    Attributes:
        call: what is timed.
        check: what is verified in its stead, where the timed call draws other random numbers or the sides may round
            a decision differently.
    """

    call: Call
    check: Call | None = None


@dataclass(frozen=True)
class Limit:
    """Other work, whose rate the host's is held against.

    Attributes:
        name: heads the column.
        call: that work.
        operations: of the call.
        host_operations: of the host's call.
        goal: share of the other's rate that the project asks for.
    """

    name: str
    call: Callable[[], object]
    operations: int
    host_operations: int
    goal: float


@dataclass(frozen=True)
class Contest:
    """One case of one op.

    Attributes:
        stem: the shader's.
        case: its line in the table.
        sides: by name; the host's, the reference's and any others.
        samples: by which times are divided.
        bytes_moved: what the host kernel must read and write, each array once.
        bar: reference / host that the project asks for.
        rtol: relative difference from the reference that counts as equal.
        atol: the same, absolute.
        limit: where the host's arithmetic is held against other work, not its memory against copies.
    """

    stem: str
    case: str
    sides: dict[str, Side]
    samples: int
    bytes_moved: int
    bar: float
    rtol: float
    atol: float
    limit: Limit | None = None


@dataclass(frozen=True)
class Result:
    """A race's outcome: by side, and of the limit's work, the seconds a call of every round."""

    contest: Contest
    rounds: dict[str, list[float]]
    limit: list[float]

    @property
    def best(self) -> dict[str, float]:
        """Seconds of each side's best round."""
        return {name: min(each) for name, each in self.rounds.items()}

    def ratio(self, slow: str, fast: str) -> float:
        """Median over the rounds of one side's time over another's."""
        return statistics.median(a / b for a, b in zip(self.rounds[slow], self.rounds[fast], strict=True))

    def shares(self) -> tuple[float, float]:
        """Of the limit's rate that the host reaches: the median over the rounds, and of the best rounds."""
        limit = self.contest.limit
        assert limit is not None
        work = limit.host_operations / limit.operations
        each = (theirs / ours for theirs, ours in zip(self.limit, self.rounds[HOST], strict=True))
        return work * statistics.median(each), work * min(self.limit) / self.best[HOST]


def dense_bytes(*tensors: torch.Tensor) -> int:
    """Bytes of these arrays."""
    return sum(t.numel() * t.element_size() for t in tensors)


def verify(contest: Contest) -> None:
    """Every side must give what the reference gives; a fast wrong answer is not a benchmark."""
    reference = contest.sides[TORCH]
    expected = (reference.check or reference.call)()
    for name, side in contest.sides.items():
        got = (side.check or side.call)()
        assert len(got) == len(expected), f"{name} gives {len(got)} results, the reference {len(expected)}"
        for mine, theirs in zip(got, expected, strict=True):
            equal = torch.allclose(mine, theirs, rtol=contest.rtol, atol=contest.atol)
            assert equal, f"{name} is not the reference within {contest.rtol} relative + {contest.atol}"


def run_race(contest: Contest) -> Result:
    """Verify, then time the sides in turns."""
    verify(contest)
    calls = {name: _calls_of_a_turn(side.call) for name, side in contest.sides.items()}
    times: dict[str, list[float]] = {name: [] for name in contest.sides}
    limits: list[float] = []
    limit_calls = 0 if contest.limit is None else _calls_of_a_turn(contest.limit.call)
    start = time.perf_counter()
    for done in range(_MOST_ROUNDS):
        if done >= _LEAST_ROUNDS and time.perf_counter() - start > _RACE_SECONDS:
            break
        for name, side in contest.sides.items():
            times[name].append(_turn(side.call, calls[name]))
        if contest.limit is not None:
            limits.append(_turn(contest.limit.call, limit_calls))
    # The table needs no arrays, and all contests' together are much memory.
    limit = None if contest.limit is None else replace(contest.limit, call=lambda: None)
    return Result(replace(contest, sides={}, limit=limit), times, limits)


def _calls_of_a_turn(call: Callable[[], object]) -> int:
    call()
    start = clock()
    call()
    return max(1, round(_TURN_SECONDS / max(clock() - start, 1e-6)))


def _turn(call: Callable[[], object], calls: int) -> float:
    """Seconds a call."""
    time.sleep(_SETTLE_SECONDS)
    if calls > 1:
        call()  # untimed: the caches are full of the other side's arrays, and our own threads asleep
    start = clock()
    for _ in range(calls):
        call()
    return (clock() - start) / calls


def time_side(benchmark: BenchmarkFixture, contest: Contest, side: str) -> None:
    """One side by pytest-benchmark, whose files can be kept and compared from commit to commit."""
    benchmark.group = f"{contest.stem}: {contest.case}"
    benchmark.extra_info.update(samples=contest.samples, bytes_moved=contest.bytes_moved)
    benchmark(contest.sides[side].call)
