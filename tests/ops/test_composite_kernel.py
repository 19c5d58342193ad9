"""Composite kernels against the float64 reference, forward and backward, in every mode."""

from __future__ import annotations

import math

import pytest
import torch

from nerf_metal import ops
from nerf_metal.selftest.composite import (
    INTERVAL_CASES,
    IntervalCase,
    compare_composite,
    compare_interval,
    run_composite,
    run_interval,
)
from nerf_metal.selftest.composite_cases import COMPOSITE_CASES, COMPOSITE_HALF_CASES, CompositeCase
from nerf_metal.selftest.composite_expected import RESULTS, expected_composite
from nerf_metal.selftest.modes import HOST, METAL, STRICT, STRICT_PLAIN, STRICT_SIMD, Mode
from nerf_metal.selftest.tolerances import close, worst
from tests.ops.modes import KERNEL_MODES, ON_METAL, PLAIN_AND_SIMD

COMPARED = COMPOSITE_CASES + COMPOSITE_HALF_CASES
CASES = pytest.mark.parametrize("case", COMPARED, ids=lambda case: case.name)
FEW = [c for c in COMPARED if c.name in ("33x31", "alpha-ends", "stop-0.3", "packed-gaps", "half-257x65")]
FEW_CASES = pytest.mark.parametrize("case", FEW, ids=lambda case: case.name)


@KERNEL_MODES
@CASES
def test_results_and_gradients_are_the_references(case: CompositeCase, mode: Mode) -> None:
    ratios = compare_composite(want := expected_composite(case), run_composite(want, mode), mode.name)
    assert set(ratios) >= {*RESULTS, "grad_values", "grad_rgbs"}
    assert ("grad_background" in ratios) == (case.background is not None)


@ON_METAL
def test_metal_results_and_gradients_are_the_references() -> None:
    for case in COMPARED:
        compare_composite(want := expected_composite(case), run_composite(want, METAL))


@KERNEL_MODES
@FEW_CASES
@pytest.mark.parametrize("used", [*((name,) for name in RESULTS), ("depth", "transmittance")], ids="+".join)
def test_gradients_from_some_of_the_results(case: CompositeCase, used: tuple[str, ...], mode: Mode) -> None:
    compare_composite(want := expected_composite(case, used), run_composite(want, mode), mode.name)


@FEW_CASES
def test_half_of_the_arguments_may_want_no_gradient(case: CompositeCase) -> None:
    inputs = case.build()
    rgbs = inputs.rgbs.clone().requires_grad_()
    kind = "alphas" if inputs.is_alpha else "sigmas"
    got = ops.composite_rays(
        inputs.t_starts,
        inputs.t_ends,
        rgbs,
        packed_info=inputs.packed_info,
        background=inputs.background,
        early_stop_eps=inputs.early_stop_eps,
        backend="host",
        **{kind: inputs.values},
    )
    got.rgb.sum().backward()
    weights = got.weights.detach()[..., None].expand(rgbs.shape)
    assert torch.equal(rgbs.grad, weights.to(rgbs.dtype))


@CASES
def test_simd_group_kernels_agree_with_their_plain_twins(case: CompositeCase) -> None:
    want = expected_composite(case)
    plain, simd = (run_composite(want, mode) for mode in (STRICT_PLAIN, STRICT_SIMD))
    for name, value in plain.items():
        close(simd[name], value, name, 2.0 * want.tolerance[name], "twins")


@CASES
def test_lane_order_changes_no_bit(case: CompositeCase) -> None:
    want = expected_composite(case)
    first, *others = (run_composite(want, mode) for mode in STRICT if mode.simd)
    for other in others:
        assert all(torch.equal(value, other[name]) for name, value in first.items())


def test_more_threads_change_no_bit() -> None:
    want = expected_composite(next(case for case in COMPOSITE_CASES if case.name == "257x65"))
    alone = run_composite(want, HOST)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        together = run_composite(want, HOST)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(value, together[name]) for name, value in alone.items())


@PLAIN_AND_SIMD
@pytest.mark.parametrize("case", INTERVAL_CASES, ids=lambda case: case.name)
def test_one_interval_is_accurate_at_every_depth(case: IntervalCase, mode: Mode) -> None:
    compare_interval(case, run_interval(case, mode))


@PLAIN_AND_SIMD
def test_every_half_is_read_exactly(mode: Mode) -> None:
    every = torch.arange(65536, dtype=torch.int32).to(torch.int16).view(torch.float16)
    every = torch.cat((every[every.isfinite()], torch.zeros(1).half())).view(-1, 1, 3)  # 63 488 of them
    t = torch.zeros(len(every), 1)
    with mode.active() as backend:
        got = ops.composite_rays(t, t + 1, every, alphas=torch.ones(t.shape).half(), backend=backend)
    assert torch.equal(got.rgb, every[:, 0].float())


@PLAIN_AND_SIMD
def test_gradients_are_rounded_to_half_to_nearest_even(mode: Mode) -> None:
    # One opaque sample: the gradient to its colour is the picture's, rounded. Around every tie, denormals, overflow.
    every = torch.arange(0x7C00, dtype=torch.int32).to(torch.int16).view(torch.float16).float()
    ties = (every[:-1] + every[1:]) / 2  # exact in float32
    up, down = torch.tensor(math.inf), torch.tensor(-math.inf)
    special = torch.tensor([65519.9, 65520.0, 65536.0, 1e6, math.inf, 1e-9, 2.0**-25, 2.0**-24, 1e-30])
    grad = torch.cat((every, ties, torch.nextafter(ties, up), torch.nextafter(ties, down), special))
    grad = torch.cat((grad, -grad))
    grad = grad if mode is HOST else grad[::7]  # strict mode takes seconds for all
    grad = torch.cat((grad, grad.new_zeros(-len(grad) % 3))).view(-1, 3)
    t = torch.zeros(len(grad), 1)
    rgbs = torch.zeros(len(grad), 1, 3).half().requires_grad_()
    with mode.active() as backend:
        got = ops.composite_rays(t, t + 1, rgbs, alphas=torch.ones(t.shape).half(), backend=backend)
        got.rgb.backward(grad)
    assert torch.equal(rgbs.grad[:, 0], grad.half())


def test_a_nan_is_never_close() -> None:
    # The comparison itself: it must see NaN, a wrong shape and an error beyond the tolerance; infinity equals itself.
    one = torch.ones(2)
    assert worst("", torch.tensor([1.0, math.nan]), one, 1.0).ratio == math.inf
    assert worst("", torch.ones(3), one, 1.0).ratio == math.inf
    assert worst("", torch.tensor([1.0, 1.5]), one, 0.25).ratio == 2.0
    assert worst("", torch.tensor([math.inf, 1.0]), torch.tensor([math.inf, 1.0]), 0.0).ratio == 0.0
    assert worst("", torch.tensor([math.inf, 1.0]), one, 1.0).ratio == math.inf
