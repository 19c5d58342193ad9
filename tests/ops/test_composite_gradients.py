"""Gradients of the composite reference, in float64: against finite differences and against formulas."""

from __future__ import annotations

import pytest
import torch

from nerf_metal.reference import composite_rays
from nerf_metal.selftest.composite_cases import pack
from nerf_metal.selftest.tolerances import FLOAT64, close

LAYOUTS = pytest.mark.parametrize("layout", ["dense", "packed"])


def make(layout: str) -> dict[str, torch.Tensor | None]:
    """Four rays of about five samples; the packed ones in no order, with samples between them."""
    random = torch.Generator().manual_seed(3)
    info, shape = None, (4, 5)
    if layout == "packed":
        info, total = pack("gaps", 4, 5)
        info = info[[2, 0, 3, 1]].clone()
        info[1, 1] = 0  # an empty ray
        shape = (total,)
    t = 2.0 + torch.rand((*shape, 2), generator=random, dtype=torch.float64).cumsum(0)
    rgbs = torch.rand((*shape, 3), generator=random, dtype=torch.float64)
    return {
        "t_starts": t[..., 0],
        "t_ends": t[..., 0] + 0.3 + 0.2 * t[..., 1] / t.max(),
        "rgbs": rgbs,
        "packed_info": info,
        "background": torch.rand((4, 3), generator=random, dtype=torch.float64),
        "values": torch.rand(shape, generator=random, dtype=torch.float64),
    }


def check(made: dict[str, torch.Tensor | None], *, is_alpha: bool, early_stop_eps: float = 0.0) -> None:
    def results(values: torch.Tensor, rgbs: torch.Tensor, background: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return composite_rays(
            made["t_starts"],
            made["t_ends"],
            rgbs,
            None if is_alpha else values,
            values if is_alpha else None,
            packed_info=made["packed_info"],
            background=background,
            early_stop_eps=early_stop_eps,
        )

    leaves = [made[name].clone().requires_grad_() for name in ("values", "rgbs", "background")]
    assert torch.autograd.gradcheck(results, leaves)


@LAYOUTS
def test_gradients_to_densities_colors_and_background_are_finite_differences(layout: str) -> None:
    made = make(layout)
    made["values"] = made["values"] * 3.0 + 0.1  # finite differences must not cross the clamp at 0
    check(made, is_alpha=False)
    made["values"] = -made["values"]
    check(made, is_alpha=False)


@LAYOUTS
def test_gradients_to_opacities_are_finite_differences(layout: str) -> None:
    made = make(layout)
    made["values"] = torch.where(made["values"] < 0.4, torch.zeros_like(made["values"]), made["values"] * 0.9)
    check(made, is_alpha=True)


@LAYOUTS
def test_gradients_to_opacities_of_zero_and_one_are_exact(layout: str) -> None:
    # Every result is a polynomial of first degree in each alpha, so that its derivative is the difference between
    # alpha = 1 and alpha = 0, wherever alpha itself lies.
    made = make(layout)
    alphas = ((made["values"] * 3.0).floor() / 2.0).clamp(max=1.0)
    assert {0.0, 0.5, 1.0} == set(alphas.flatten().tolist())
    random = torch.Generator().manual_seed(1)
    cotangents: list[torch.Tensor] = []

    def loss(values: torch.Tensor) -> torch.Tensor:
        got = composite_rays(
            made["t_starts"],
            made["t_ends"],
            made["rgbs"],
            alphas=values,
            packed_info=made["packed_info"],
            background=made["background"],
        )
        if not cotangents:
            cotangents.extend(torch.randn(x.shape, generator=random, dtype=torch.float64) for x in got)
        return sum((g * x).sum() for g, x in zip(cotangents, got, strict=True))

    leaf = alphas.clone().requires_grad_()
    loss(leaf).backward()
    for i in range(alphas.numel()):
        ends = [alphas.clone(), alphas.clone()]
        for end, value in zip(ends, (0.0, 1.0), strict=True):
            end.view(-1)[i] = value
        close(leaf.grad.view(-1)[i], loss(ends[1]) - loss(ends[0]), f"alpha {i}", 10 * FLOAT64)


@LAYOUTS
def test_gradients_behind_the_early_stop_are_zero_in_differences_too(layout: str) -> None:
    made = make(layout)
    check(made, is_alpha=True, early_stop_eps=0.31)


@pytest.mark.parametrize("samples", [1, 2, 3, 8, 33])
def test_opacity_gradient_is_the_product_of_the_others_even_at_one(samples: int) -> None:
    # opacity = 1 - prod (1 - alpha_j), so d opacity / d alpha_i = prod_{j != i} (1 - alpha_j).
    random = torch.Generator().manual_seed(samples)
    alphas = 0.2 * torch.rand((4, samples), generator=random, dtype=torch.float64)
    alphas[1, samples // 2] = 1.0
    alphas[2, 0] = 1.0
    alphas[3] = 1.0
    alphas.requires_grad_()
    edges = torch.arange(samples + 1, dtype=torch.float64).expand(4, -1)
    rgbs = torch.zeros((4, samples, 3), dtype=torch.float64)
    got = composite_rays(edges[:, :-1], edges[:, 1:], rgbs, alphas=alphas)
    got.opacity.sum().backward()
    keep = 1.0 - alphas.detach()
    others = [keep[:, [j for j in range(samples) if j != i]].prod(-1) for i in range(samples)]
    close(alphas.grad, torch.stack(others, -1), "opacity gradient", FLOAT64)


def test_density_gradient_is_one_sided_at_zero_and_none_below() -> None:
    # One sample: opacity = 1 - exp(-sigma dt), whose slope at 0 from above is dt.
    sigmas = torch.tensor([[0.0], [-1.0], [-0.0]], dtype=torch.float64, requires_grad=True)
    t = torch.tensor([[1.0]] * 3, dtype=torch.float64)
    composite_rays(t, t + 0.25, torch.zeros(3, 1, 3), sigmas).opacity.sum().backward()
    assert sigmas.grad.flatten().tolist() == [0.25, 0.0, 0.25]
