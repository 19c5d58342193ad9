"""Does torch compute right gradients of a run's matrix products, on the run's device, at the run's shapes?

On M1 and M2, torch before 2.14 sums what lies in memory behind the operands into the weight gradients of ``Linear``
where a call has 32 767 rows or more (pytorch #177116, #193487): mostly thousands of times too large, and only now and
then, by what the memory happens to hold. Training goes on, and learns nothing. So each run looks first.

Rows are a few distinct ones over and over: what comes out in float64 is then known from these few, for every entry and
in milliseconds. Their number is a prime, so that no rows that are taken for others look right.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch.torch_version import TorchVersion

from nerf_metal import kernels, ops, reference
from nerf_metal.util.rounding import DEVIATIONS, products

WHOLE_ROWS = 131_072
"""Most rows of a call that is tried though no call is so large: 2048 rays of 64 samples, the coarse pass of a usual
step and four times what torch gets wrong. The fine pass, three times as large, would say no more and take 2 GB."""
FEWEST_ROWS = 256
"""Calls are not made smaller than this: a GPU would spend its time on starting them."""
SECONDS = 1.0
"""What a check may take at the start of a run: nobody notices."""
MENDED = "2.14"
"""The first torch without the fault (pytorch #183535)."""

_DISTINCT = 1021  # rows; a prime
_BEHIND = 4096  # rows left in memory behind the operands: more than any tile of a matrix product
_STALE = 1e4  # their size: read but once, they stand out against a million of the true ones
_AFFECTED = 16  # least width, in and out, for which torch takes the wrong path


@dataclass(frozen=True)
class MatmulFinding:
    """What a check found.

    Attributes:
        usable: calls of ``rows_used`` rows are right.
        rows_used: rows of the calls that the run may make.
        rows_wrong: rows of the smallest calls that came out wrong; None where none did.
        wrong: what of them.
        error: of the worst entry, over the largest right one; infinite where it is no number. None where all is right.
        layers: what computes the layers.
        torch: its version.
        device: the kind.
        seconds: taken.
        tested: (rows, in, out) that were compared; of a fused network, its first and last width.
        untested: for which there was no time.
    """

    usable: bool
    rows_used: int
    rows_wrong: int | None
    wrong: str
    error: float | None
    layers: str
    torch: str
    device: str
    seconds: float
    tested: tuple[tuple[int, int, int], ...]
    untested: tuple[tuple[int, int, int], ...] = ()

    def sentence(self) -> str:
        """For a person: what was found, and what is or must be done."""
        where = f"torch {self.torch} on {self.device}"
        if self.error is None:
            some = f"{len(self.tested)} of {len(self.tested) + len(self.untested)} shapes" if self.untested else "all"
            return (
                f"{where} computes right weight gradients of {self.layers} in calls of {self.rows_used} rows "
                f"({some} tested in {self.seconds:.2f} s)."
            )
        off = f"off by {self.error:.2g} times their size" if math.isfinite(self.error) else "not even finite"
        known = self.device == "mps" and TorchVersion(self.torch) < MENDED and self.wrong == "weight gradients"
        like = "" if known else "like "
        said = (
            f"{where} computes wrong {self.wrong} of {self.layers} in calls of {self.rows_wrong} rows: {off} "
            f"({like}pytorch #177116, #193487)"
        )
        then = f"torch {MENDED} mends it." if known else "Nothing of the kind is known there: please report it."
        if self.usable:
            return f"{said}. Calls of {self.rows_used} rows are right, and nerf_metal makes no larger ones. {then}"
        other = "another version of torch" if self.device == "cpu" else "--device cpu or another version of torch"
        return f"{said}. No smaller calls are known to be right, and nothing could be learnt: take {other}. {then}"

    def evidence(self) -> dict[str, Any]:
        """For a report, as JSON holds it: an error that is no number is None."""
        finite = self.error is not None and math.isfinite(self.error)
        return {
            "rows_wrong": self.rows_wrong,
            "error": self.error if finite else None,
            "rows_used": self.rows_used,
            "torch": self.torch,
            "device": self.device,
        }


class _Result(NamedTuple):
    """Something computed, what it must be, and the sums of its terms' magnitudes."""

    name: str
    got: torch.Tensor
    want: torch.Tensor
    sizes: torch.Tensor
    terms: int


class _Fault(NamedTuple):
    """See :class:`MatmulFinding`."""

    wrong: str
    error: float


def check_weight_gradients(
    layers: Sequence[tuple[int, int]],
    *,
    rows_cut: int,
    rows_whole: int,
    device: torch.device,
    least_rows: int = 1,
    seconds: float = SECONDS,
    clock: Callable[[], float] = time.perf_counter,
    seed: int = 0,
) -> MatmulFinding:
    """Check ``Linear`` and its gradients at the calls of a run; where these are wrong, find smaller ones that
    are right.

    The largest layers first, then the same at ``rows_whole``, until the time is spent. The search for smaller calls is
    made to the end: halves of halves take no longer than what they are halves of, and without them there is no run.

    Args:
        layers: (in, out) of the network's.
        rows_cut: of the run's largest calls.
        rows_whole: of the calls that would be, were they not cut; no more than ``rows_cut`` where that is of no
            interest. At most :data:`WHOLE_ROWS` are tried.
        device: of the run.
        least_rows: of a call, as one ray has them.
        seconds: to spend.
        clock: tells them.
        seed: of the numbers.
    """
    watch = _Watch(seconds, clock)
    shapes = sorted(set(layers), key=lambda shape: shape[0] * shape[1], reverse=True)
    rows_whole = min(rows_whole, WHOLE_ROWS)
    plan = [(rows_cut, *shape) for shape in shapes]
    if rows_whole > rows_cut:
        plan += [(rows_whole, *shape) for shape in shapes if min(shape) >= _AFFECTED]
    tested: list[tuple[int, int, int]] = []

    def first_fault(calls: Sequence[tuple[int, int, int]], timed: bool) -> tuple[int, _Fault] | None:
        for rows, into, out in calls:
            work = rows * into * out
            if timed and not watch.affords(work):
                continue  # a smaller one may fit
            fault = _worst(_linear_results(rows, into, out, device, seed))
            watch.did(work)
            tested.append((rows, into, out))
            if fault is not None:
                return rows, fault
        return None

    _worst(_linear_results(1, *shapes[-1], device, seed))  # torch's first backward takes a third of a second to start
    watch.count_from_here()
    rows, usable = rows_cut, True
    found = first_fault(plan, timed=True)
    smaller = found
    while smaller is not None and smaller[0] == rows:
        found = smaller
        rows = 1 << (rows - 1).bit_length() - 1  # the next power of two below
        if rows < max(FEWEST_ROWS, least_rows):
            rows, usable = 0, False
            break
        smaller = first_fault([(rows, *shape) for shape in shapes], timed=False)
    return MatmulFinding(
        usable=usable,
        rows_used=rows,
        rows_wrong=None if found is None else found[0],
        wrong="" if found is None else found[1].wrong,
        error=None if found is None else found[1].error,
        layers="Linear",
        torch=str(torch.__version__),
        device=device.type,
        seconds=watch.spent(),
        tested=tuple(tested),
        untested=tuple(call for call in plan if call not in tested),
    )


def check_mlp_gradients(
    networks: Sequence[Sequence[int]],
    *,
    rows: int,
    device: torch.device,
    backend: str,
    clock: Callable[[], float] = time.perf_counter,
    seed: int = 0,
) -> MatmulFinding:
    """Check :func:`nerf_metal.ops.mlp` and its gradients. There is no cure: its calls are not cut.

    Args:
        networks: the widths of each, from its input to its output.
        rows: of a step.
        device: of the run.
        backend: of the run, see :mod:`nerf_metal.ops`.
        clock: tells the seconds.
        seed: of the numbers.
    """
    watch = _Watch(math.inf, clock)
    backend = kernels.resolve("mlp", backend, torch.empty(0, device=device))
    tested, fault = [], None
    for widths in networks:
        fault = _worst(_mlp_results(rows, widths, device, backend, seed))
        tested.append((rows, widths[0], widths[-1]))
        if fault is not None:
            break
    return MatmulFinding(
        usable=fault is None,
        rows_used=0 if fault else rows,
        rows_wrong=rows if fault else None,
        wrong=fault.wrong if fault else "",
        error=fault.error if fault else None,
        layers=f"the fused networks (backend {backend})",
        torch=str(torch.__version__),
        device=device.type,
        seconds=watch.spent(),
        tested=tuple(tested),
    )


class _Watch:
    """Seconds spent, and how many more some work will take, by what was done before."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds, self._clock = seconds, clock
        self._started = self._counted = clock()
        self._work = 0

    def count_from_here(self) -> None:
        """What came before says nothing of the time that work takes."""
        self._counted = self._clock()

    def spent(self) -> float:
        return self._clock() - self._started

    def affords(self, work: int) -> bool:
        """Whether there is time for it; for the first always."""
        pace = (self._clock() - self._counted) / max(self._work, 1)
        return self._work == 0 or self.spent() + pace * work <= self._seconds

    def did(self, work: int) -> None:
        self._work += work


class _Rows:
    """So many rows, of few distinct ones."""

    def __init__(self, rows: int, device: torch.device) -> None:
        self.places = torch.arange(rows) % _DISTINCT
        self.counts = torch.bincount(self.places, minlength=_DISTINCT).double()[:, None]
        self._there = self.places.to(device)

    def spread(self, distinct: torch.Tensor) -> torch.Tensor:
        """All of them on the device, in memory of their own that ends where they end."""
        return distinct.to(self._there.device).index_select(0, self._there)

    def last(self, distinct: torch.Tensor) -> torch.Tensor:
        """As many of the last as are distinct: enough to see that rows came out right."""
        return distinct[self.places[-_DISTINCT:]]


def _numbers(random: torch.Generator, rows: int, columns: int, least: float) -> torch.Tensor:
    """Evenly distributed from ``least`` to 1, mostly positive: sums as large as their terms, as behind a ReLU, so that
    a thousandth of a sum that is missing stands out from its rounding."""
    return torch.rand((rows, columns), generator=random) * (1.0 - least) + least


def _linear_results(rows: int, into: int, out: int, device: torch.device, seed: int) -> Iterator[_Result]:
    """``Linear`` and its gradients, behind a larger call that leaves large numbers in memory."""
    random = torch.Generator().manual_seed(seed)
    x, grad = (_numbers(random, _DISTINCT, columns, least) for columns, least in ((into, 0.0), (out, -0.5)))
    weight, bias = _numbers(random, out, into, -0.5), _numbers(random, 1, out, -0.5)[0]

    def run(rows: _Rows, scale: float) -> tuple[torch.Tensor, ...]:
        parameters = (t.to(device, copy=True) for t in (weight, bias))
        leaves = [t.requires_grad_() for t in (rows.spread(x * scale), *parameters)]
        y = F.linear(*leaves)
        grads = torch.autograd.grad(y, leaves, rows.spread(grad * scale))
        return tuple(t.cpu() for t in (y.detach()[-_DISTINCT:], grads[0][-_DISTINCT:], *grads[1:]))

    run(_Rows(rows + _BEHIND, device), _STALE)
    all_rows = _Rows(rows, device)
    results = run(all_rows, 1.0)

    def exact(x: torch.Tensor, grad: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> Iterator[torch.Tensor]:
        yield all_rows.last(x @ weight.T + bias)
        yield all_rows.last(grad @ weight)
        yield (grad * all_rows.counts).T @ x
        yield (grad * all_rows.counts).sum(0)

    given = [t.double() for t in (x, grad, weight, bias)]
    names = (("outputs", into), ("input gradients", out), ("weight gradients", rows), ("bias gradients", rows))
    rights = zip(exact(*given), exact(*(t.abs() for t in given)), strict=True)
    for (name, terms), got, (want, sizes) in zip(names, results, rights, strict=True):
        yield _Result(name, got, want, sizes, terms)


def _mlp_results(rows: int, widths: Sequence[int], device: torch.device, backend: str, seed: int) -> Iterator[_Result]:
    """The fused network and its gradients, behind a larger call too. Every other hidden unit has negative weights and
    is dead whatever the rounding, the others none: no gradient hangs on the last digit of a ReLU's argument."""
    random = torch.Generator().manual_seed(seed)
    x, grad = (_numbers(random, _DISTINCT, columns, least) for columns, least in ((widths[0], 0.0), (widths[-1], -0.5)))
    weights = [_numbers(random, out, into, 0.5) / into for into, out in itertools.pairwise(widths)]
    for weight in weights[:-1]:
        weight[1::2] *= -1.0

    def run(rows: _Rows, scale: float) -> tuple[torch.Tensor, ...]:
        leaves = [t.requires_grad_() for t in (rows.spread(x * scale), *(w.to(device, copy=True) for w in weights))]
        y = ops.mlp(leaves[0], leaves[1:], backend=backend)
        grads = torch.autograd.grad(y, leaves, rows.spread(grad * scale))
        return tuple(t.cpu() for t in (y.detach()[-_DISTINCT:], grads[0][-_DISTINCT:], *grads[1:]))

    run(_Rows(rows + _BEHIND, device), _STALE)
    all_rows = _Rows(rows, device)
    y, *grads = run(all_rows, 1.0)
    exact = [t.detach().double().requires_grad_() for t in (x, *weights)]
    right = reference.mlp(exact[0], exact[1:])

    def gradients(grad: torch.Tensor) -> list[torch.Tensor]:
        """Of the distinct rows' inputs, and of the weights."""
        grad_x = torch.autograd.grad(right, exact[0], grad, retain_graph=True)[0]
        grad_weights = torch.autograd.grad(right, exact[1:], grad * all_rows.counts, retain_graph=True)
        return [all_rows.last(grad_x), *grad_weights]

    # what is alive has positive weights: of the outputs all terms are positive, of gradients all but those of dL/dy
    last = all_rows.last(right.detach())
    depth = sum(widths)  # terms of the sums before, layer after layer
    yield _Result("outputs", y, last, last, depth)
    names = ["input gradients", *["weight gradients"] * len(weights)]
    for name, got, want, sizes in zip(
        names, grads, gradients(grad.double()), gradients(grad.double().abs()), strict=True
    ):
        yield _Result(name, got, want, sizes, depth + (rows if name == "weight gradients" else 0))


def _worst(results: Iterator[_Result]) -> _Fault | None:
    """The result furthest off relative to its size, of those that rounding does not explain."""
    faults = []
    for name, got, want, sizes, terms in results:
        off = (got.double() - want).abs()
        if not bool((off <= DEVIATIONS * products(terms) * sizes).all()):  # NaN is not within anything
            faults.append(
                _Fault(name, float((off / want.abs().amax()).nan_to_num(nan=math.inf, posinf=math.inf).amax()))
            )
    return max(faults, key=lambda fault: fault.error, default=None)
