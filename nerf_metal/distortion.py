"""Lens distortion of pinhole cameras: the polynomial model of OpenCV and COLMAP (Brown 1971)."""

from __future__ import annotations

from typing import Protocol, TypeVar

import torch
from torch import Tensor

NEWTON_STEPS = 8
"""Of undoing a distortion. Each doubles the digits: from the first guess of a wide phone lens, whose corners move by a
tenth, four are enough for float32; as many again for stronger lenses."""

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
    radial = 1.0 + r2 * (lens.k1 + r2 * (lens.k2 + r2 * (lens.k3 + r2 * lens.k4)))
    xy2 = 2.0 * x * y
    return (
        x * radial + lens.p1 * xy2 + lens.p2 * (r2 + 2.0 * x * x),
        y * radial + lens.p2 * xy2 + lens.p1 * (r2 + 2.0 * y * y),
    )


def undistort(x: Tensor, y: Tensor, lens: Coefficients[float | Tensor]) -> tuple[Tensor, Tensor]:
    """The inverse of :func:`distort`, by Newton's method from the distorted point.

    Where the polynomial folds over, far outside of what the lens was calibrated for, there is no inverse: such points
    stay where the steps leave them, finite.
    """
    u, v = x, y
    for _ in range(NEWTON_STEPS):
        r2 = u * u + v * v
        radial = 1.0 + r2 * (lens.k1 + r2 * (lens.k2 + r2 * (lens.k3 + r2 * lens.k4)))
        # d radial / d (r2), doubled: the chain rule's 2 u and 2 v
        slope = 2.0 * (lens.k1 + r2 * (2.0 * lens.k2 + r2 * (3.0 * lens.k3 + r2 * (4.0 * lens.k4))))
        error_x, error_y = (a - b for a, b in zip(distort(u, v, lens), (x, y), strict=True))
        cross = slope * u * v + 2.0 * (lens.p1 * u + lens.p2 * v)  # both off the diagonal: the model is a gradient's
        xx = radial + slope * u * u + 2.0 * lens.p1 * v + 6.0 * lens.p2 * u
        yy = radial + slope * v * v + 2.0 * lens.p2 * u + 6.0 * lens.p1 * v
        determinant = xx * yy - cross * cross
        # Zero on a fold: there a step would be infinite.
        scale = torch.where(determinant.abs() > 1e-6, 1.0 / determinant, torch.zeros_like(determinant))
        u, v = u - scale * (yy * error_x - cross * error_y), v - scale * (xx * error_y - cross * error_x)
    return u, v
