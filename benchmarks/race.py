"""Races: several sides do the same work in one process, are verified to be equal, and are then timed in turns.

The result of a race is the median over its rounds of (time of the other side / time of the host). Both turns of a round
have the same noise of the machine, which two separate runs do not have. The nanoseconds are those of each side's best
round. Where arithmetic is the limit, other work that shows what the processor can do takes turns too.
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
SAMPLES = (64, 192)  # the coarse and the fine pass of NeRF

_TURN_SECONDS = 0.008  # long beside the resolution of the clock and the time to wake threads
_SETTLE_SECONDS = 0.01  # OpenMP's threads spin for about 3 ms after their last work
_RACE_SECONDS = 1.5
_LEAST_ROUNDS, _MOST_ROUNDS = 5, 21


@dataclass(frozen=True)
class Side:
    """One way to do the work.

    Attributes:
        call: the call to time.
        check: the call to verify instead, if the timed call draws other random numbers or the sides may round a
            decision differently.
    """

    call: Call
    check: Call | None = None


@dataclass(frozen=True)
class Limit:
    """Other work to whose rate the host's rate is compared.

    Attributes:
        name: heading of its column.
        call: the other work.
        operations: floating-point operations of that call.
        host_operations: floating-point operations of the host's call.
        goal: share of the other rate that the project asks for.
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
        stem: name of the shader.
        case: name of the case in the table.
        sides: the sides by name: the host, the reference and any others.
        samples: number of samples, by which times are divided.
        bytes_moved: bytes that the host kernel must read and write, each array once.
        bar: ratio of reference to host that the project asks for.
        rtol: relative difference from the reference that counts as equal.
        atol: absolute difference from the reference that counts as equal.
        limit: other work to compare the host's arithmetic to; None compares its memory traffic to copies.
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
    """The result of a race: seconds per call in every round, for each side and for the limit's work."""

    contest: Contest
    rounds: dict[str, list[float]]
    limit: list[float]

    @property
    def best(self) -> dict[str, float]:
        """Seconds of each side's best round."""
        return {name: min(each) for name, each in self.rounds.items()}

    def ratio(self, slow: str, fast: str) -> float:
        """Return the median over the rounds of the ratio of two sides' times."""
        return statistics.median(a / b for a, b in zip(self.rounds[slow], self.rounds[fast], strict=True))

    def shares(self) -> tuple[float, float]:
        """Return the host's share of the limit's rate: the median over the rounds, and that of the best rounds."""
        limit = self.contest.limit
        assert limit is not None
        work = limit.host_operations / limit.operations
        each = (theirs / ours for theirs, ours in zip(self.limit, self.rounds[HOST], strict=True))
        return work * statistics.median(each), work * min(self.limit) / self.best[HOST]


def dense_bytes(*tensors: torch.Tensor) -> int:
    """Return the number of bytes of these arrays."""
    return sum(t.numel() * t.element_size() for t in tensors)


def verify(contest: Contest) -> None:
    """Check that every side gives what the reference gives: a fast wrong answer is not a benchmark."""
    reference = contest.sides[TORCH]
    expected = (reference.check or reference.call)()
    for name, side in contest.sides.items():
        got = (side.check or side.call)()
        assert len(got) == len(expected), f"{name} gives {len(got)} results, the reference {len(expected)}"
        for mine, theirs in zip(got, expected, strict=True):
            equal = torch.allclose(mine, theirs, rtol=contest.rtol, atol=contest.atol)
            assert equal, f"{name} is not the reference within {contest.rtol} relative + {contest.atol}"


def run_race(contest: Contest) -> Result:
    """Verify the sides of a contest, then time them in turns."""
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
    # Drop the arrays: the table does not need them, and those of all contests take much memory.
    limit = None if contest.limit is None else replace(contest.limit, call=lambda: None)
    return Result(replace(contest, sides={}, limit=limit), times, limits)


def _calls_of_a_turn(call: Callable[[], object]) -> int:
    call()
    start = clock()
    call()
    return max(1, round(_TURN_SECONDS / max(clock() - start, 1e-6)))


def _turn(call: Callable[[], object], calls: int) -> float:
    """Time one turn of a side, and return the seconds per call."""
    time.sleep(_SETTLE_SECONDS)
    if calls > 1:
        call()  # untimed: the caches hold the other side's arrays, and the threads are asleep
    start = clock()
    for _ in range(calls):
        call()
    return (clock() - start) / calls


def time_side(benchmark: BenchmarkFixture, contest: Contest, side: str) -> None:
    """Time one side with pytest-benchmark, whose files can be kept and compared between commits."""
    benchmark.group = f"{contest.stem}: {contest.case}"
    benchmark.extra_info.update(samples=contest.samples, bytes_moved=contest.bytes_moved)
    benchmark(contest.sides[side].call)
