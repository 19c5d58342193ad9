"""The table's gradient in fixed point: its words against whole numbers, whatever the order."""

from __future__ import annotations

import math

import pytest
import torch

from nerf_metal import kernels, ops
from nerf_metal.selftest.hashgrid import HashgridCase, hashgrid_params
from nerf_metal.selftest.modes import HOST, Mode
from nerf_metal.selftest.tolerances import EPS, close
from tests.ops.modes import PLAIN_KERNEL_MODES

WORD = 2**32
ONE = 2**48  # units
LIMIT = 2.0**14
LEVELS = ops.hashgrid_levels(1, 1, 1, 5)  # one cell, 27 vertices
VERTEX = 13  # (1, 1, 1), on which a point at the box's middle lies: all other weights are 0
PARAMS = {"n_levels": 1, "n_features": 1, "n_entries": 27}


def words(mode: Mode, values: torch.Tensor, per_thread: int = 1) -> torch.Tensor:
    """The two words of the sum of these gradients, from points that all lie on one vertex."""
    sums = torch.zeros((27, 1, 2), dtype=torch.int32)
    buffers = [torch.full((len(values), 3), 0.5), values[:, None].contiguous(), LEVELS, sums]
    params = PARAMS | {"n_points": len(values), "points_per_thread": per_thread}
    with mode.active() as backend:
        kernels.launch(
            "hashgrid_backward_fixed_f32", buffers, params, (-(-len(values) // per_thread), 1), backend=backend
        )
    others = torch.cat((sums[:VERTEX], sums[VERTEX + 1 :]))
    assert not others.any()
    return sums[VERTEX, 0]


def whole(pair: torch.Tensor) -> int:
    """Two words as a number of units."""
    low, high = (int(word) % WORD for word in pair)
    total = high * WORD + low
    return total - WORD**2 if high >= WORD // 2 else total


def units(value: float) -> int:
    """An addend: towards 0 to whole units, cut at 2^14."""
    return math.trunc(min(max(value, -LIMIT), LIMIT) * ONE)  # exact: a float times a power of two


def as_float(mode: Mode, total: int, before: float = 0.0) -> float:
    """What the second kernel makes of a sum."""
    pair = [(total // WORD) % WORD, total % WORD]
    high, low = (word - WORD if word >= WORD // 2 else word for word in pair)
    out = torch.tensor([before])
    params = {"n_points": 0, "n_levels": 0, "n_features": 1, "n_entries": 1, "points_per_thread": 1}
    with mode.active() as backend:
        sums = torch.tensor([low, high], dtype=torch.int32)
        kernels.launch("hashgrid_fixed_f32", [sums, out], params, (1,), backend=backend)
    return out.item()


def addends(count: int) -> torch.Tensor:
    """Of both signs, from below a unit to tens."""
    random = torch.Generator().manual_seed(count)
    size = 10.0 ** (torch.rand(count, generator=random) * 20 - 18.5)
    return size * torch.randn(count, generator=random).sign()


SIZES = (0.0, 1.0, 0.1, 2.0**-16, 2.0**-48, 1.5 * 2.0**-48, 2.0**-49, 1e-9, 1e-13, 1e-30, 1e-45, 16383.999, 16384.0)


@PLAIN_KERNEL_MODES
@pytest.mark.parametrize("value", [sign * size for size in SIZES for sign in (1, -1)])
def test_one_addend(value: float, mode: Mode) -> None:
    value = torch.tensor(value).item()  # as a float32 has it
    assert whole(words(mode, torch.tensor([value]))) == units(value)


@PLAIN_KERNEL_MODES
def test_great_addends_are_cut(mode: Mode) -> None:
    for value, want in ((1e6, LIMIT), (-1e6, -LIMIT), (float("inf"), LIMIT), (-float("inf"), -LIMIT)):
        # the other seven weights are 0, and 0 * inf is NaN: finite here
        finite = max(min(value, 3e38), -3e38)
        assert whole(words(mode, torch.tensor([finite]))) == want * ONE


@PLAIN_KERNEL_MODES
@pytest.mark.parametrize("count", [1, 2, 33, 70, 1000])
def test_sums_are_whole_numbers_and_carry_from_word_to_word(count: int, mode: Mode) -> None:
    values = addends(count)
    total = sum(units(v) for v in values.tolist())
    got = whole(words(mode, values))
    assert got == total
    assert abs(got / ONE - math.fsum(values.tolist())) <= count / ONE
    # every step of a sum that goes up and down through 0
    for n in range(1, min(count, 40)):
        assert whole(words(mode, values[:n])) == sum(units(v) for v in values[:n].tolist())


@PLAIN_KERNEL_MODES
def test_a_sum_comes_back_as_the_nearest_float(mode: Mode) -> None:
    random = torch.Generator().manual_seed(1)
    totals = [0, 1, -1, WORD - 1, WORD, -WORD, 1 - WORD, ONE, -ONE, 2**62, -(2**62), 2**63 - 1, 2**40 + 1, -(2**40) - 1]
    totals += [int(torch.randint(-(2**62), 2**62, (1,), generator=random)) >> shift for shift in range(0, 62, 3)]
    for total in totals:
        want = torch.tensor([total / ONE], dtype=torch.float64)
        close(torch.tensor([as_float(mode, total)]), want, "sum", EPS * want.abs())
    assert as_float(mode, ONE // 2, before=2.0) == 2.5


@PLAIN_KERNEL_MODES
def test_order_and_threads_change_no_bit(mode: Mode) -> None:
    case = HashgridCase("", 300, 2)
    positions, _, levels, grad = case.build()
    grad = grad * 10.0 ** torch.linspace(-12, 2, 300)[:, None]

    def run(order: torch.Tensor, per_thread: int) -> torch.Tensor:
        params = hashgrid_params(case, per_thread)
        sums = torch.zeros((params["n_entries"], 2, 2), dtype=torch.int32)
        buffers = [positions[order].contiguous(), grad[order].contiguous(), levels, sums]
        grid = (-(-300 // per_thread), len(levels))
        with mode.active() as backend:
            kernels.launch("hashgrid_backward_fixed_f32", buffers, params, grid, backend=backend)
        return sums

    want = run(torch.arange(300), 1)
    assert want.any()
    for seed, per_thread in ((1, 1), (2, 7), (3, 300)):
        order = torch.randperm(300, generator=torch.Generator().manual_seed(seed))
        assert torch.equal(run(order, per_thread), want)


@pytest.mark.parametrize("kernel", ["hashgrid_backward_fixed_f32", "hashgrid_backward_atomic_f32"])
def test_threads_at_one_entry_lose_nothing(kernel: str) -> None:
    points = 20000
    values = torch.ones(points, 1)  # sums of whole numbers are exact in float too
    before = torch.get_num_threads()
    try:
        for threads in (1, 4):
            torch.set_num_threads(threads)
            fixed = "fixed" in kernel
            out = torch.zeros(27, 2, dtype=torch.int32) if fixed else torch.zeros(27)
            params = PARAMS | {"n_points": points, "points_per_thread": 1}
            with HOST.active():
                buffers = [torch.full((points, 3), 0.5), values, LEVELS, out]
                kernels.launch(kernel, buffers, params, (points, 1), backend="host")
            assert (whole(out[VERTEX]) / ONE if fixed else out[VERTEX].item()) == points
    finally:
        torch.set_num_threads(before)
