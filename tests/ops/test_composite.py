"""Compositing: numbers worked by hand on every backend, then what the reference must hold for any input."""

from __future__ import annotations

import math

import pytest
import torch

from nerf_metal import ops
from nerf_metal.reference import Composited, composite_rays
from nerf_metal.selftest.composite_cases import COMPOSITE_CASES, CompositeCase, CompositeInputs
from nerf_metal.selftest.modes import Mode
from nerf_metal.selftest.tolerances import EPS, FLOAT64, TINY, close
from tests.ops.modes import ALL_MODES
from tests.refusals import refusal

EDGES = torch.tensor([[2.0, 3.0, 4.0]])
LN2 = math.log(2.0)
RED_GREEN = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
BLUE = torch.tensor([0.0, 0.0, 1.0])


def composite(mode: Mode, *args: torch.Tensor, **options: object) -> Composited:
    with mode.active() as backend:
        return ops.composite_rays(*args, backend=backend, **options)


def near(actual: torch.Tensor | None, expected: list[object], what: str) -> None:
    assert actual is not None, what
    close(actual, torch.tensor(expected), what, 4.0 * EPS)


@ALL_MODES
def test_two_half_opaque_samples_before_blue(mode: Mode) -> None:
    # sigma dt = ln 2, so alpha = 1/2 twice: T = 1, 1/2; w = 1/2, 1/4; opacity 3/4.
    # rgb = (1/2) red + (1/4) green + (1/4) blue; depth = 2.5 / 2 + 3.5 / 4 = 2.125.
    sigmas = torch.tensor([[LN2, LN2]])
    got = composite(mode, EDGES[:, :-1], EDGES[:, 1:], RED_GREEN, sigmas, background=BLUE)
    near(got.transmittance, [[1.0, 0.5]], "transmittance")
    near(got.weights, [[0.5, 0.25]], "weights")
    near(got.opacity, [0.75], "opacity")
    near(got.rgb, [[0.5, 0.25, 0.25]], "rgb")
    near(got.depth, [2.125], "depth")


@ALL_MODES
def test_gradients_of_two_half_opaque_samples(mode: Mode) -> None:
    # L = (1, 2, 3) . rgb: q = g . (c - blue) = 1 - 3, 2 - 3 = -2, -1. Behind sample 2 nothing, behind sample 1
    # B = q2 alpha2 = -1/2. dL/dalpha = T (q - B) = -3/2, -1/2; dalpha/dsigma = keep dt = 1/2.
    sigmas = torch.tensor([[LN2, LN2]], requires_grad=True)
    rgbs, background = RED_GREEN.clone().requires_grad_(), BLUE.clone().requires_grad_()
    got = composite(mode, EDGES[:, :-1], EDGES[:, 1:], rgbs, sigmas, background=background)
    got.rgb.backward(torch.tensor([[1.0, 2.0, 3.0]]))
    near(sigmas.grad, [[-0.75, -0.25]], "sigmas")
    near(rgbs.grad, [[[0.5, 1.0, 1.5], [0.25, 0.5, 0.75]]], "rgbs")
    near(background.grad, [0.25, 0.5, 0.75], "background")


@ALL_MODES
def test_alpha_of_one_hides_what_is_behind_and_keeps_its_gradient(mode: Mode) -> None:
    # alpha = 1/2, 1, 1/2: T = 1, 1/2, 0; w = 1/2, 1/2, 0.
    # L = 1 w1 + 2 w2 + 4 w3, so q = 1, 2, 4. B3 = 2 (behind sample 2), B2 = 2 + 0 (behind sample 1).
    # dL/dalpha = T (q - B): 1 - 2 = -1, (2 - 2) / 2 = 0, 0. With q1 = 1, q2 = 3: -2, (3 - 2) / 2, 0.
    edges = torch.tensor([[0.0, 1.0, 2.0, 3.0]])
    for second, expected in ((2.0, [[-1.0, 0.0, 0.0]]), (3.0, [[-2.0, 0.5, 0.0]])):
        alphas = torch.tensor([[0.5, 1.0, 0.5]], requires_grad=True)
        got = composite(mode, edges[:, :-1], edges[:, 1:], torch.rand(1, 3, 3), alphas=alphas)
        near(got.transmittance, [[1.0, 0.5, 0.0]], "transmittance")
        near(got.weights, [[0.5, 0.5, 0.0]], "weights")
        got.weights.backward(torch.tensor([[1.0, second, 4.0]]))
        near(alphas.grad, expected, "alphas")


@ALL_MODES
def test_early_stop_leaves_out_samples_behind_the_threshold(mode: Mode) -> None:
    # alpha = 1/2 everywhere: T = 1, 1/2, 1/4 < 0.3. Left: w = 1/2, 1/4. With a threshold of 1/4 the third stays.
    edges = torch.arange(41.0)[None]
    alphas, rgbs = torch.full((1, 40), 0.5), torch.ones(1, 40, 3)
    for eps, kept in ((0.3, 2), (0.25, 3)):
        got = composite(mode, edges[:, :-1], edges[:, 1:], rgbs, alphas=alphas, early_stop_eps=eps)
        front = 0.5 ** torch.arange(40.0)
        front[kept:] = 0.0
        assert torch.equal(got.transmittance, front[None])
        assert torch.equal(got.weights, 0.5 * front[None])
        near(got.opacity, [1.0 - 0.5**kept], "opacity")


@ALL_MODES
def test_samples_in_no_ray_have_no_weight(mode: Mode) -> None:
    # Rays own samples 4, 5 and 1; alpha = 1/2 everywhere.
    info = torch.tensor([[4, 2], [1, 1], [3, 0]])
    t = torch.arange(7.0)
    alphas = torch.full((7,), 0.5)
    got = composite(mode, t, t + 1.0, torch.ones(7, 3), alphas=alphas, packed_info=info)
    near(got.weights, [0.0, 0.5, 0.0, 0.0, 0.5, 0.25, 0.0], "weights")
    near(got.transmittance, [0.0, 1.0, 0.0, 0.0, 1.0, 0.5, 0.0], "transmittance")
    near(got.opacity, [0.75, 0.5, 0.0], "opacity")
    near(got.depth, [4.5 / 2 + 5.5 / 4, 0.75, 0.0], "depth")


@ALL_MODES
def test_infinite_density_is_opaque_but_not_where_it_has_no_length(mode: Mode) -> None:
    edges = torch.tensor([[1.0, 1.0, 2.0, 3.0]])
    sigmas = torch.tensor([[math.inf, math.inf, 1.0]])
    got = composite(mode, edges[:, :-1], edges[:, 1:], torch.ones(1, 3, 3), sigmas)
    near(got.weights, [[0.0, 1.0, 0.0]], "weights")
    near(got.depth, [1.5], "depth")


# ---- the reference ----
def reference64(inputs: CompositeInputs) -> Composited:
    values = inputs.values.double()
    return composite_rays(
        inputs.t_starts.double(),
        inputs.t_ends.double(),
        inputs.rgbs.double(),
        None if inputs.is_alpha else values,
        values if inputs.is_alpha else None,
        packed_info=inputs.packed_info,
        background=None if inputs.background is None else inputs.background.double(),
        early_stop_eps=inputs.early_stop_eps,
    )


DENSE = [case for case in COMPOSITE_CASES if case.packed is None and case.rays * case.samples > 0]


@pytest.mark.parametrize("case", DENSE, ids=lambda case: case.name)
def test_reference_weights_are_a_partial_share(case: CompositeCase) -> None:
    inputs = case.build()
    got = reference64(inputs)
    assert (got.weights >= 0).all() and (got.opacity <= 1 + FLOAT64).all()
    assert (got.transmittance.diff(dim=-1) <= FLOAT64).all()
    close(got.opacity, got.weights.sum(-1), "opacity", FLOAT64)
    keep = 1 - inputs.values.double()
    if not inputs.is_alpha:
        keep = torch.exp(-inputs.values.double().clamp(0, 1e300) * (inputs.t_ends - inputs.t_starts).double())
    front = torch.cat((torch.ones_like(keep[:, :1]), keep[:, :-1].cumprod(-1)), -1)
    front = torch.where(front >= inputs.early_stop_eps, front, 0.0)
    # (t_ends - t_starts) is rounded to float32 above, so that it is wrong by half an EPS: tau as well
    close(got.transmittance, front, "transmittance", front * -front.clamp(min=1e-300).log() * EPS + 1e-12)
    if inputs.early_stop_eps == 0:
        close(got.opacity, 1 - front[:, -1] * keep[:, -1], "1 - product", EPS)


@pytest.mark.parametrize("case", DENSE, ids=lambda case: case.name)
def test_packed_rays_are_dense_rays(case: CompositeCase) -> None:
    inputs = case.build()
    rays, samples = inputs.values.shape
    order = torch.randperm(rays, generator=torch.Generator().manual_seed(0))
    info = torch.stack((order * samples, torch.full_like(order, samples)), -1)
    flat = [x.reshape(-1, *x.shape[2:]) for x in (inputs.t_starts, inputs.t_ends, inputs.rgbs, inputs.values)]
    background = inputs.background
    if background is not None and background.dim() == 2:
        background = background[order]
    packed = CompositeInputs(*flat, inputs.is_alpha, info, background, inputs.early_stop_eps)
    dense, got = reference64(inputs), reference64(packed)
    close(got.rgb, dense.rgb[order], "rgb", FLOAT64)
    close(got.depth, dense.depth[order], "depth", FLOAT64)
    close(got.weights, dense.weights.flatten(), "weights", FLOAT64)
    close(got.transmittance, dense.transmittance.flatten(), "transmittance", FLOAT64)


def test_reference_is_the_same_for_densities_and_their_opacities() -> None:
    inputs = CompositeCase("", 7, 33, background="each", early_stop_eps=1e-4).build()
    by_sigma = reference64(inputs)
    alphas = -torch.expm1(-inputs.values.double() * (inputs.t_ends.double() - inputs.t_starts.double()))
    by_alpha = composite_rays(
        inputs.t_starts.double(),
        inputs.t_ends.double(),
        inputs.rgbs.double(),
        alphas=alphas,
        background=inputs.background,
        early_stop_eps=1e-4,
    )
    for name, value in by_sigma._asdict().items():
        close(getattr(by_alpha, name), value, name, FLOAT64)


def test_reference_picture_does_not_change_when_an_interval_is_cut_in_two() -> None:
    inputs = CompositeCase("", 5, 8).build()
    whole = reference64(inputs)
    middle = (inputs.t_starts.double() + inputs.t_ends.double()) / 2
    starts = torch.stack((inputs.t_starts.double(), middle), -1).flatten(1)
    ends = torch.stack((middle, inputs.t_ends.double()), -1).flatten(1)
    halves = composite_rays(
        starts,
        ends,
        inputs.rgbs.double().repeat_interleave(2, 1),
        inputs.values.double().repeat_interleave(2, 1),
    )
    close(halves.rgb, whole.rgb, "rgb", FLOAT64)
    close(halves.opacity, whole.opacity, "opacity", FLOAT64)
    close(halves.weights.view(5, 8, 2).sum(-1), whole.weights, "weights", FLOAT64)


def test_reference_needs_densities_or_opacities() -> None:
    t = torch.zeros(1, 1)
    with pytest.raises(ValueError, match=refusal("composite_rays", "sigmas", "neither")):
        composite_rays(t, t, torch.zeros(1, 1, 3))


NO_SAMPLES = [c for c in COMPOSITE_CASES if c.samples == 0 or c.name in ("packed-no-samples", "packed-no-rays")]


@ALL_MODES
@pytest.mark.parametrize("case", NO_SAMPLES, ids=lambda case: case.name)
def test_rays_without_samples_show_the_background(case: CompositeCase, mode: Mode) -> None:
    inputs = case.build()
    values, rgbs = inputs.values.clone().requires_grad_(), inputs.rgbs.clone().requires_grad_()
    background = inputs.background.clone().requires_grad_()
    got = composite(
        mode,
        inputs.t_starts,
        inputs.t_ends,
        rgbs,
        values,
        packed_info=inputs.packed_info,
        background=background,
    )
    assert torch.equal(got.rgb, background.expand(inputs.rays, 3))
    assert not got.opacity.any() and got.opacity.shape == (inputs.rays,)
    assert not got.depth.any() and got.depth.shape == (inputs.rays,)
    assert got.weights.shape == got.transmittance.shape == inputs.values.shape
    (got.rgb.sum() + got.weights.sum()).backward()
    assert torch.equal(background.grad, torch.ones(inputs.rays, 3).sum_to_size(background.shape))
    assert not values.grad.any() and not rgbs.grad.any()


@ALL_MODES
def test_denormal_densities_give_no_rubbish(mode: Mode) -> None:
    inputs = next(case for case in COMPOSITE_CASES if case.name == "denormal-density").build()
    got = composite(mode, inputs.t_starts, inputs.t_ends, inputs.rgbs, inputs.values)
    assert torch.equal(got.transmittance, torch.ones_like(got.transmittance))
    assert (got.weights >= 0).all() and (got.weights <= TINY).all()
