"""Check that torch computes correct gradients of a run's matrix products, on the run's device and at the run's shapes.

On M1 and M2, torch before 2.14 adds the contents of the memory after the operands to the weight gradients of
``Linear`` if a call has 32 767 rows or more (pytorch #177116, #193487). The gradients are then often thousands of times
too large, but only sometimes, because it depends on the contents of the memory. Training continues and learns nothing.
So each run checks its gradients first.

The rows of the test are a few distinct rows that repeat. The correct float64 result of every entry follows from these
few in milliseconds. Their number is a prime, so that the result is wrong if some rows are taken for others.
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
"""Largest number of rows that is tested in a call larger than those of the run: 2048 rays with 64 samples. That is the
coarse pass of a usual step, and four times the number at which torch fails. The fine pass is three times as large. It
would show nothing more and take 2 GB."""
FEWEST_ROWS = 256
"""Least number of rows of a call. A GPU would spend most of its time on starting smaller calls."""
SECONDS = 1.0
"""Largest duration of a check in seconds. It is short compared with the start of a run."""
FIXED_IN = "2.14"
"""First version of torch without the fault (pytorch #183535)."""

_DISTINCT = 1021  # number of distinct rows; a prime
_BEHIND = 4096  # number of rows left in memory after the operands: more than any tile of a matrix product
_STALE = 1e4  # their magnitude: a single one that is read stands out against a million correct ones
_AFFECTED = 16  # least width, in and out, for which torch fails


@dataclass(frozen=True)
class MatmulFinding:
    """The result of a check.

    Attributes:
        usable: whether calls of ``rows_used`` rows are correct.
        rows_used: number of rows of the largest calls that the run may make.
        rows_wrong: number of rows of the smallest calls with a wrong result; None if all results are correct.
        wrong: name of the wrong result, such as ``weight gradients``.
        error: error of the worst entry, relative to the largest correct entry; infinite if the entry is not finite.
            None if all results are correct.
        layers: name of the code that computes the layers.
        torch: version of torch.
        device: type of the device.
        seconds: duration of the check, seconds.
        tested: shapes (rows, in, out) that were tested. For a fused network they hold its first and last width.
        untested: shapes for which there was no time.
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
        """Return the result for a person, with what nerf_metal does and what the person should do."""
        where = f"torch {self.torch} on {self.device}"
        if self.error is None:
            some = f"{len(self.tested)} of {len(self.tested) + len(self.untested)} shapes" if self.untested else "all"
            return (
                f"{where} computes correct weight gradients of {self.layers} in calls of {self.rows_used} rows "
                f"({some} tested in {self.seconds:.2f} s)."
            )
        off = f"the error is {self.error:.2g} times their size" if math.isfinite(self.error) else "they are not finite"
        known = self.device == "mps" and TorchVersion(self.torch) < FIXED_IN and self.wrong == "weight gradients"
        like = "" if known else "like "
        said = (
            f"{where} computes wrong {self.wrong} of {self.layers} in calls of {self.rows_wrong} rows: {off} "
            f"({like}pytorch #177116, #193487)"
        )
        then = f"torch {FIXED_IN} fixes it." if known else "This is not a known fault: please report it."
        if self.usable:
            return f"{said}. Calls of {self.rows_used} rows are correct, and nerf_metal makes no larger ones. {then}"
        other = "another version of torch" if self.device == "cpu" else "--device cpu or another version of torch"
        return f"{said}. No smaller calls are known to be correct, so training would fail: use {other}. {then}"

    def evidence(self) -> dict[str, Any]:
        """Return the numbers of the result, as JSON holds them. An error that is not finite is None."""
        finite = self.error is not None and math.isfinite(self.error)
        return {
            "rows_wrong": self.rows_wrong,
            "error": self.error if finite else None,
            "rows_used": self.rows_used,
            "torch": self.torch,
            "device": self.device,
        }


class _Result(NamedTuple):
    """A computed tensor and the correct one.

    Attributes:
        name: name of the tensor, such as ``weight gradients``.
        got: computed tensor.
        want: correct tensor, float64.
        sizes: sums of the magnitudes of the terms of each entry, float64.
        terms: number of terms of each entry.
    """

    name: str
    got: torch.Tensor
    want: torch.Tensor
    sizes: torch.Tensor
    terms: int


class _Fault(NamedTuple):
    """A wrong result: its name and its error, see ``wrong`` and ``error`` of :class:`MatmulFinding`."""

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
    """Check ``Linear`` and its gradients at the shapes of a run. If they are wrong, find smaller, correct calls.

    The check starts with the largest layers, repeats them at ``rows_whole``, and ends when the time is spent. The
    search for smaller calls has no time limit: all halvings together take no longer than the first call, and the run
    needs the result.

    Args:
        layers: widths (in, out) of the network's layers.
        rows_cut: number of rows of the run's largest calls.
        rows_whole: number of rows that the calls would have if they were not cut. They are not tested if this is at
            most ``rows_cut``. At most :data:`WHOLE_ROWS` are tested.
        device: device of the run.
        least_rows: least number of rows of a call: those of one ray.
        seconds: time limit, seconds.
        clock: function that returns the present time in seconds.
        seed: seed of the test's numbers.
    """
    budget = _TimeBudget(seconds, clock)
    shapes = sorted(set(layers), key=lambda shape: shape[0] * shape[1], reverse=True)
    rows_whole = min(rows_whole, WHOLE_ROWS)
    plan = [(rows_cut, *shape) for shape in shapes]
    if rows_whole > rows_cut:
        plan += [(rows_whole, *shape) for shape in shapes if min(shape) >= _AFFECTED]
    tested: list[tuple[int, int, int]] = []

    def first_fault(calls: Sequence[tuple[int, int, int]], timed: bool) -> tuple[int, _Fault] | None:
        for rows, into, out in calls:
            work = rows * into * out
            if timed and not budget.affords(work):
                continue  # there may be time for a smaller one
            fault = _worst(_linear_results(rows, into, out, device, seed))
            budget.count(work)
            tested.append((rows, into, out))
            if fault is not None:
                return rows, fault
        return None

    _worst(_linear_results(1, *shapes[-1], device, seed))  # torch's first backward takes a third of a second to start
    budget.restart_pace()
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
        seconds=budget.spent(),
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
    """Check :func:`nerf_metal.ops.mlp` and its gradients. Its calls cannot be made smaller.

    Args:
        networks: widths of each network, from its input to its output.
        rows: number of rows of a training step.
        device: device of the run.
        backend: implementation of the kernels, see :mod:`nerf_metal.ops`.
        clock: function that returns the present time in seconds.
        seed: seed of the test's numbers.
    """
    budget = _TimeBudget(math.inf, clock)
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
        seconds=budget.spent(),
        tested=tuple(tested),
    )


class _TimeBudget:
    """The seconds spent, and an estimate whether there is time for more work, from the pace of the work before."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds, self._clock = seconds, clock
        self._started = self._counted = clock()
        self._work = 0

    def restart_pace(self) -> None:
        """Leave the time so far out of the pace. It still counts as spent."""
        self._counted = self._clock()

    def spent(self) -> float:
        """Return the seconds since the start."""
        return self._clock() - self._started

    def affords(self, work: int) -> bool:
        """Return whether there is time for some work. It is always True for the first."""
        pace = (self._clock() - self._counted) / max(self._work, 1)
        return self._work == 0 or self.spent() + pace * work <= self._seconds

    def count(self, work: int) -> None:
        """Add work that is done to the pace."""
        self._work += work


class _Rows:
    """Indices of rows that repeat a few distinct ones."""

    def __init__(self, rows: int, device: torch.device) -> None:
        self.places = torch.arange(rows) % _DISTINCT
        self.counts = torch.bincount(self.places, minlength=_DISTINCT).double()[:, None]
        self._there = self.places.to(device)

    def spread(self, distinct: torch.Tensor) -> torch.Tensor:
        """Return all rows on the device, in a new tensor, so that its memory ends with the last row."""
        return distinct.to(self._there.device).index_select(0, self._there)

    def last(self, distinct: torch.Tensor) -> torch.Tensor:
        """Return the last rows, as many as are distinct. They are enough to test the rows of a result."""
        return distinct[self.places[-_DISTINCT:]]


def _numbers(random: torch.Generator, rows: int, columns: int, least: float) -> torch.Tensor:
    """Return random numbers, evenly distributed from ``least`` to 1.

    Most of them are positive, as after a ReLU, so that sums are about as large as the sums of the magnitudes. An error
    of a thousandth of a sum is then larger than its rounding.
    """
    return torch.rand((rows, columns), generator=random) * (1.0 - least) + least


def _linear_results(rows: int, into: int, out: int, device: torch.device, seed: int) -> Iterator[_Result]:
    """Yield the results of ``Linear`` and its gradients, after a larger call that leaves large numbers in memory."""
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
    """Yield the results of the fused network and its gradients, after a larger call too.

    Every second hidden unit has negative weights only and is 0 whatever the rounding is. The other units have positive
    weights only. So no gradient depends on the last digit of a ReLU's argument.
    """
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
        """Return the gradients of the last inputs and of the weights."""
        grad_x = torch.autograd.grad(right, exact[0], grad, retain_graph=True)[0]
        grad_weights = torch.autograd.grad(right, exact[1:], grad * all_rows.counts, retain_graph=True)
        return [all_rows.last(grad_x), *grad_weights]

    # units that are not 0 have positive weights: all terms of the outputs are positive, and all factors of the terms of
    # the gradients except dL/dy
    last = all_rows.last(right.detach())
    depth = sum(widths)  # number of terms of the sums in all layers
    yield _Result("outputs", y, last, last, depth)
    names = ["input gradients", *["weight gradients"] * len(weights)]
    for name, got, want, sizes in zip(
        names, grads, gradients(grad.double()), gradients(grad.double().abs()), strict=True
    ):
        yield _Result(name, got, want, sizes, depth + (rows if name == "weight gradients" else 0))


def _worst(results: Iterator[_Result]) -> _Fault | None:
    """Return the result with the largest relative error, of those whose errors are larger than rounding."""
    faults = []
    for name, got, want, sizes, terms in results:
        off = (got.double() - want).abs()
        if not bool((off <= DEVIATIONS * products(terms) * sizes).all()):  # also False for NaN
            faults.append(
                _Fault(name, float((off / want.abs().amax()).nan_to_num(nan=math.inf, posinf=math.inf).amax()))
            )
    return max(faults, key=lambda fault: fault.error, default=None)
