"""The results of the races as a text table of at most 100 columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.race import HOST, KERNEL, TORCH, Limit, Result
from nerf_metal.util.text import wrap

# Notes by shader: the unit, the bytes, what counts as equal, and the other sides. Each benchmark adds its own.
NOTES: dict[str, tuple[str, ...]] = {}
LEGEND = (
    "ns: nanoseconds per sample in each side's best round. ratio: time of that side / time of the host,",
    "median of the rounds; ~ if the best rounds differ from it by half or more. bar: the ratio of torch that",
    "the project asks for; unclear if median and best disagree. GB/s: bytes that the host kernel must move /",
    "its best time. of copy: that rate / the rate of copies on this machine; arrays in the caches can exceed",
    "it. Where arithmetic is the limit: GFLOP/s of the host's best round, and the median share of the rate of",
    "other work, with its goal.",
)
_NAME = 32
_NOISY = 1.5


def table(stem: str, results: Sequence[Result], bandwidth: float) -> Iterator[str]:
    """Write the table of a shader: heading, notes, and one line for each case.

    Args:
        stem: name of the shader.
        results: results of its races.
        bandwidth: rate of copies on this machine, bytes per second.
    """
    yield stem
    yield from wrap(" ".join(NOTES[stem]), "  ", width=100)
    names = dict.fromkeys(name for result in results for name in result.best)
    others = [name for name in names if name not in (HOST, TORCH, KERNEL)]
    limit = results[0].contest.limit
    rates = f"{'GB/s':>6}{'of copy':>8}" if limit is None else f"{'GFLOP/s':>9}{limit.name:>8}  {'goal':14}"
    head = f"{'':{_NAME}}{'host ns':>8}{rates}{'torch ns':>9}{'ratio':>8}  {'bar':10}"
    yield head + "".join(f"{name:>9}{'ratio':>8}" for name in others)
    for result in results:
        yield _line(result, HOST, result.contest.case, bandwidth, others)
        if KERNEL in result.best:
            yield _line(result, KERNEL, f"  {KERNEL}, preallocated", bandwidth, others)


def _line(result: Result, side: str, name: str, bandwidth: float, others: Sequence[str]) -> str:
    line = f"{name:{_NAME}}{_ns(result, side):8.2f}"
    if result.contest.limit is None:
        rate = result.contest.bytes_moved / result.best[side]
        line += f"{rate / 1e9:6.1f}{rate / bandwidth:8.0%}"
    else:
        line += _goal(result, result.contest.limit)
    line += f"{_ns(result, TORCH):9.2f}{_ratio(result, TORCH, side)}  {_bar(result) if side == HOST else '':10}"
    for other in others:
        given = other in result.best
        line += f"{_ns(result, other):9.2f}{_ratio(result, other, side)}" if given else f"{'-':>9}{'-':>7} "
    return line.rstrip()


def _ns(result: Result, side: str) -> float:
    return result.best[side] / result.contest.samples * 1e9


def _ratio(result: Result, slow: str, fast: str) -> str:
    median, best = result.ratio(slow, fast), result.best[slow] / result.best[fast]
    noisy = max(median / best, best / median) > _NOISY
    return f"{median:6.{1 if median >= 1 else 2}f}x{'~' if noisy else ' '}"


def _goal(result: Result, limit: Limit) -> str:
    rate, shares = limit.host_operations / result.best[HOST], result.shares()
    goal = f"{limit.goal:.0%} {_verdict(shares, limit.goal)}"
    return f"{rate / 1e9:9.1f}{shares[0]:8.0%}  {goal:14}"


def _bar(result: Result) -> str:
    ratios = result.ratio(TORCH, HOST), result.best[TORCH] / result.best[HOST]
    return f"{result.contest.bar:g}x {_verdict(ratios, result.contest.bar)}"


def _verdict(both: tuple[float, float], asked: float) -> str:
    return "met" if min(both) >= asked else "not met" if max(both) < asked else "unclear"
