"""Composite kernels against the float64 reference, forward and backward, in every mode."""

from __future__ import annotations

import math

import pytest
import torch

from nerf_metal import ops
from tests.ops.cases import COMPOSITE_CASES, COMPOSITE_HALF_CASES, CompositeCase
from tests.ops.modes import HOST, KERNEL_MODES, METAL, ON_METAL, PLAIN_AND_SIMD, STRICT, STRICT_PLAIN, STRICT_SIMD, Mode
from tests.ops.oracle import RESULTS, expected
from tests.ops.run_composite import compare, run
from tests.tolerances import ALPHA, EXP_ULPS, close, worst

COMPARED = COMPOSITE_CASES + COMPOSITE_HALF_CASES
CASES = pytest.mark.parametrize("case", COMPARED, ids=lambda case: case.name)
FEW = [c for c in COMPARED if c.name in ("33x31", "alpha-ends", "stop-0.3", "packed-gaps", "half-257x65")]
FEW_CASES = pytest.mark.parametrize("case", FEW, ids=lambda case: case.name)


@KERNEL_MODES
@CASES
def test_results_and_gradients_are_the_references(case: CompositeCase, mode: Mode) -> None:
    ratios = compare(expected(case), mode)
    assert set(ratios) >= {*RESULTS, "grad_values", "grad_rgbs"}
    assert ("grad_background" in ratios) == (case.background is not None)


@ON_METAL
def test_metal_results_and_gradients_are_the_references() -> None:
    for case in COMPARED:
        compare(expected(case), METAL)


@KERNEL_MODES
@FEW_CASES
@pytest.mark.parametrize("used", [*((name,) for name in RESULTS), ("depth", "transmittance")], ids="+".join)
def test_gradients_from_some_of_the_results(case: CompositeCase, used: tuple[str, ...], mode: Mode) -> None:
    compare(expected(case, used), mode)


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
    want = expected(case)
    plain, simd = (run(want.inputs, want.cotangents, mode) for mode in (STRICT_PLAIN, STRICT_SIMD))
    for one, two in zip(plain, simd, strict=True):
        for name, value in one.items():
            close(two[name], value, name, 2.0 * want.tolerance[name], "twins")


@CASES
def test_lane_order_changes_no_bit(case: CompositeCase) -> None:
    want = expected(case)
    first, *others = (run(want.inputs, want.cotangents, mode) for mode in STRICT if mode.simd)
    for other in others:
        for one, two in zip(first, other, strict=True):
            assert all(torch.equal(value, two[name]) for name, value in one.items())


def test_more_threads_change_no_bit() -> None:
    want = expected(next(case for case in COMPOSITE_CASES if case.name == "257x65"))
    alone = run(want.inputs, want.cotangents, HOST)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        together = run(want.inputs, want.cotangents, HOST)
    finally:
        torch.set_num_threads(before)
    for one, two in zip(alone, together, strict=True):
        assert all(torch.equal(value, two[name]) for name, value in one.items())


@PLAIN_AND_SIMD
def test_exp_is_within_its_promise(mode: Mode) -> None:
    # With t from 0 to 1 the second sample's transmittance is exp(-sigma), sigma exact.
    sigma = torch.cat((torch.linspace(0.0, 87.0, 4001), torch.logspace(-12, 0, 1001)))
    got = one_interval(sigma, mode)[1]
    want = torch.exp(-sigma.double())
    ulp = 2.0 ** (torch.frexp(want)[1] - 24).double()
    close(got, want, "exp", EXP_ULPS * ulp)


@PLAIN_AND_SIMD
def test_opacity_of_one_interval_is_accurate_at_every_depth(mode: Mode) -> None:
    tau = torch.cat((torch.logspace(-30, 1.9, 3001), torch.linspace(0.2, 0.4, 2001)))
    got = one_interval(tau, mode)[0]
    want = -torch.expm1(-tau.double())
    close(got, want, "alpha", want * ALPHA)


def one_interval(sigma: torch.Tensor, mode: Mode) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight of a first interval from 0 to 1, and the transmittance behind it."""
    edges = torch.tensor([0.0, 1.0, 2.0]).expand(len(sigma), 3)
    with mode.active() as backend:
        got = ops.composite_rays(
            edges[:, :-1],
            edges[:, 1:],
            torch.zeros(len(sigma), 2, 3),
            torch.stack((sigma, torch.zeros_like(sigma)), -1),
            backend=backend,
        )
    return got.weights[:, 0], got.transmittance[:, 1]


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
