"""Lens distortion of pinhole cameras: the polynomial model of OpenCV and COLMAP (Brown 1971)."""

from __future__ import annotations

import math
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

NEWTON_STEPS = 8
"""Of undoing a distortion. Each doubles the digits: from the first guess of a wide phone lens, whose corners move by a
tenth, four are enough for float32; as many again for stronger lenses."""
LEAST_DETERMINANT = 1e-3
"""Of the Jacobian where a lens is still taken to have an inverse: at a thousandth, a pixel would show a thousand times
the area that one in the middle shows."""
LONGEST_STEP = 0.5
"""On the plane at distance 1: half of what a lens of a right angle sees to one side. Near a fold Newton's steps have no
bound."""

Number = TypeVar("Number", bound=float | Tensor, covariant=True)


class Coefficients(Protocol[Number]):
    """Radial ``k1`` to ``k4`` and tangential ``p1, p2``, numbers or tensors that broadcast with the points; all 0 is no
    distortion."""

    @property
    def k1(self) -> Number: ...  # noqa: D102 - named above
    @property
    def k2(self) -> Number: ...  # noqa: D102
    @property
    def k3(self) -> Number: ...  # noqa: D102
    @property
    def k4(self) -> Number: ...  # noqa: D102
    @property
    def p1(self) -> Number: ...  # noqa: D102
    @property
    def p2(self) -> Number: ...  # noqa: D102


def _radial(r2: Tensor, lens: Coefficients[float | Tensor]) -> Tensor:
    return 1.0 + r2 * (lens.k1 + r2 * (lens.k2 + r2 * (lens.k3 + r2 * lens.k4)))


def distort(x: Tensor, y: Tensor, lens: Coefficients[float | Tensor]) -> tuple[Tensor, Tensor]:
    """Where a lens puts the point that an ideal camera would see at ``(x, y)``.

    OpenCV's ``projectPoints`` without the rational part: with ``r2 = x^2 + y^2``,
    ``x' = x (1 + k1 r2 + k2 r2^2 + k3 r2^3 + k4 r2^4) + 2 p1 x y + p2 (r2 + 2 x^2)`` and the same for y with p1 and p2
    exchanged.

    Args:
        x: on the plane at distance 1, to the right.
        y: the same, downwards.
        lens: its coefficients.
    """
    r2 = x * x + y * y
    radial = _radial(r2, lens)
    xy2 = 2.0 * x * y
    return (
        x * radial + lens.p1 * xy2 + lens.p2 * (r2 + 2.0 * x * x),
        y * radial + lens.p2 * xy2 + lens.p1 * (r2 + 2.0 * y * y),
    )


def undistort(x: Tensor, y: Tensor, lens: Coefficients[float | Tensor]) -> tuple[Tensor, Tensor]:
    """The inverse of :func:`distort`, by Newton's method from the distorted point.

    Of several points that a lens puts at ``(x, y)`` it is the one before the polynomial folds over. Where there is
    none, far outside of what the lens was calibrated for, the point ends near the fold.
    """
    u, v = x, y
    inner_u, inner_v = torch.zeros_like(x), torch.zeros_like(y)  # where the lens last had an inverse
    for _ in range(NEWTON_STEPS):
        xx, cross, yy = _jacobian(u, v, lens)
        determinant = xx * yy - cross * cross
        regular = (xx > 0.0) & (determinant > LEAST_DETERMINANT)
        inner_u, inner_v = torch.where(regular, u, inner_u), torch.where(regular, v, inner_v)
        error_x, error_y = (a - b for a, b in zip(distort(u, v, lens), (x, y), strict=True))
        scale = 1.0 / torch.where(regular, determinant, torch.ones_like(determinant))
        step_u = (scale * (yy * error_x - cross * error_y)).clamp(-LONGEST_STEP, LONGEST_STEP)
        step_v = (scale * (xx * error_y - cross * error_x)).clamp(-LONGEST_STEP, LONGEST_STEP)
        # A step beyond the fold would go on to another root, or nowhere: half of the way back instead.
        u = torch.where(regular, u - step_u, 0.5 * (u + inner_u))
        v = torch.where(regular, v - step_v, 0.5 * (v + inner_v))
    return u, v


def fold_radius(lens: Coefficients[float]) -> float:
    """Distance from the axis, on the plane at distance 1, up to which the radial part moves points farther out the
    farther out they are: beyond it they come back into the picture, which no lens does. Infinite where there is none.
    """
    derivative = np.array([9.0 * lens.k4, 7.0 * lens.k3, 5.0 * lens.k2, 3.0 * lens.k1, 1.0])  # by r^2
    roots = np.roots(derivative)
    real = roots.real[(np.abs(roots.imag) < 1e-9) & (roots.real > 0.0)]  # a double root's halves differ by rounding
    return math.sqrt(real.min()) if len(real) else math.inf


def _jacobian(u: Tensor, v: Tensor, lens: Coefficients[float | Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Derivatives of :func:`distort`: of x by x, of x by y and y by x, of y by y. The two in the middle are equal:
    the model is a gradient's."""
    r2 = u * u + v * v
    radial = _radial(r2, lens)
    # d radial / d (r2), doubled: the chain rule's 2 u and 2 v
    slope = 2.0 * (lens.k1 + r2 * (2.0 * lens.k2 + r2 * (3.0 * lens.k3 + r2 * (4.0 * lens.k4))))
    return (
        radial + slope * u * u + 2.0 * lens.p1 * v + 6.0 * lens.p2 * u,
        slope * u * v + 2.0 * (lens.p1 * u + lens.p2 * v),
        radial + slope * v * v + 2.0 * lens.p2 * u + 6.0 * lens.p1 * v,
    )
