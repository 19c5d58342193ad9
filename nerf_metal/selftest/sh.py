"""Named directions for spherical harmonics, and values and gradients against the reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from nerf_metal import ops
from nerf_metal.reference import spherical_harmonics
from nerf_metal.selftest.modes import Mode
from nerf_metal.selftest.tolerances import SH, SH_GRADIENT, TINY, close


@dataclass(frozen=True)
class ShCase:
    """Directions drawn evenly over the sphere, times ``scale``, with the axes among them."""

    name: str
    count: int
    degree: int
    scale: float = 1.0

    def build(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Directions, and the gradient of some loss with respect to the values."""
        random = torch.Generator().manual_seed(self.count + self.degree)
        directions = torch.nn.functional.normalize(torch.randn((self.count, 3), generator=random), dim=-1)
        axes = torch.cat((torch.eye(3), -torch.eye(3)))[: self.count]
        directions[: len(axes)] = axes
        return directions * self.scale, torch.randn((self.count, self.degree**2), generator=random)


SH_CASES = (
    *(ShCase(f"{n}-degree-{d}", n, d) for d in (1, 2, 3, 4) for n in (0, 1, 15, 16, 17, 31, 32, 33, 600)),
    *(ShCase(f"{name}-degree-{d}", 33, d, scale) for d in (3, 4) for name, scale in (("long", 1e6), ("short", 1e-20))),
)

# Factors of the components, to the digits that a tolerance needs.
FACTORS = [0.282, *[0.489] * 3, 1.093, 1.093, 0.315, 1.093, 0.546, 0.59, 2.891, 0.457, 0.373, 0.457, 1.445, 0.59]


def magnitudes(directions: torch.Tensor, degree: int) -> torch.Tensor:
    """The components of directions that are nowhere negative, with every term of every polynomial positive too."""
    x, y, z = directions.unbind(-1)
    xx, yy, zz = x * x, y * y, z * z
    polynomials = [torch.ones_like(x), y, z, x, x * y, y * z, 3 * zz + 1, x * z, xx + yy]
    polynomials += [y * (yy + 3 * xx), x * y * z, y * (1 + 5 * zz), z * (5 * zz + 3), x * (1 + 5 * zz)]
    polynomials += [z * (xx + yy), x * (3 * yy + xx)]
    return (torch.stack(polynomials, -1) * directions.new_tensor(FACTORS))[:, : degree**2]


def compare_sh(case: ShCase, got: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Worst error over tolerance; the derivatives of positive polynomials have positive terms again."""
    directions, grad = (x.double() for x in case.build())
    want, want_grad = with_gradient(spherical_harmonics, directions, case.degree, grad)
    limit, limit_grad = with_gradient(magnitudes, directions.abs(), case.degree, grad.abs())
    return {
        "values": close(got["values"], want, "values", SH * limit + TINY, case.name),
        "grad": close(got["grad"], want_grad, "grad", SH_GRADIENT * limit_grad + TINY, case.name),
    }


def with_gradient(
    function: Callable[[torch.Tensor, int], torch.Tensor], directions: torch.Tensor, degree: int, grad: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Values and the gradient to the directions, which band 0 does not have."""
    leaf = directions.clone().requires_grad_()
    values = function(leaf, degree)
    (found,) = torch.autograd.grad((values * grad).sum() + 0.0 * leaf.sum(), leaf)
    return values.detach(), found


def run_sh(case: ShCase, mode: Mode) -> dict[str, torch.Tensor]:
    """Values, and the gradient of the directions."""
    directions, grad = (mode.place(x) for x in case.build())
    directions.requires_grad_()
    with mode.active() as backend:
        values = ops.spherical_harmonics(directions, case.degree, backend=backend)
        (grad_directions,) = torch.autograd.grad(values, directions, grad)
    return {"values": values.detach(), "grad": grad_directions}
