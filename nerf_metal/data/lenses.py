"""Lens distortion: the polynomial model of OpenCV and COLMAP (Brown, "Close-range camera calibration", 1971)."""

from __future__ import annotations

import math
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

NEWTON_STEPS = 8
"""Newton steps that undo a distortion. Each doubles the number of correct digits. Four are enough in float32 for a wide
phone lens, whose corners move by a tenth; four more are for stronger lenses."""
LEAST_DETERMINANT = 1e-3
"""Least determinant of the Jacobian at which a lens counts as invertible. There a pixel shows a thousand times the area
that a pixel in the middle shows."""
LONGEST_STEP = 0.5
"""Longest Newton step along an axis, on the plane at distance 1: half of what a lens with a right angle of view sees to
one side. Newton steps near a fold would have no bound."""

Number = TypeVar("Number", bound=float | Tensor, covariant=True)


class Coefficients(Protocol[Number]):
    """Distortion coefficients of a lens: radial ``k1`` to ``k4`` and tangential ``p1`` and ``p2``.

    They are numbers, or tensors that broadcast with the points. All 0 is no distortion.
    """

    @property
    def k1(self) -> Number: ...  # noqa: D102 - the class names them
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
    """Return the radial factor at a squared distance ``r2 [...]`` from the axis."""
    return 1.0 + r2 * (lens.k1 + r2 * (lens.k2 + r2 * (lens.k3 + r2 * lens.k4)))


def distort(x: Tensor, y: Tensor, lens: Coefficients[float | Tensor]) -> tuple[Tensor, Tensor]:
    """Return where a lens shows the point that an ideal camera would show at ``(x, y)``.

    This is OpenCV's ``projectPoints`` without the rational part: with ``r2 = x^2 + y^2``,
    ``x' = x (1 + k1 r2 + k2 r2^2 + k3 r2^3 + k4 r2^4) + 2 p1 x y + p2 (r2 + 2 x^2)``, and the same for y with p1 and p2
    exchanged.

    Args:
        x: coordinate to the right on the plane at distance 1, ``[...]``.
        y: coordinate downwards on that plane, ``[...]``.
        lens: the distortion coefficients.

    Returns:
        The distorted ``x`` and ``y``, each ``[...]``.
    """
    r2 = x * x + y * y
    radial = _radial(r2, lens)
    xy2 = 2.0 * x * y
    return (
        x * radial + lens.p1 * xy2 + lens.p2 * (r2 + 2.0 * x * x),
        y * radial + lens.p2 * xy2 + lens.p1 * (r2 + 2.0 * y * y),
    )


def undistort(x: Tensor, y: Tensor, lens: Coefficients[float | Tensor]) -> tuple[Tensor, Tensor]:
    """Invert :func:`distort` by Newton's method, starting at the distorted point.

    If a lens shows several points at ``(x, y)``, the result is the one before the polynomial folds over. If it shows
    none there, far outside of what the lens was calibrated for, the result lies near the fold.

    Args:
        x: distorted coordinate to the right on the plane at distance 1, ``[...]``.
        y: distorted coordinate downwards on that plane, ``[...]``.
        lens: the distortion coefficients.

    Returns:
        The undistorted ``x`` and ``y``, each ``[...]``.
    """
    u, v = x, y
    inner_u, inner_v = torch.zeros_like(x), torch.zeros_like(y)  # the last point with an inverse
    for _ in range(NEWTON_STEPS):
        xx, cross, yy = _jacobian(u, v, lens)
        determinant = xx * yy - cross * cross
        regular = (xx > 0.0) & (determinant > LEAST_DETERMINANT)
        inner_u, inner_v = torch.where(regular, u, inner_u), torch.where(regular, v, inner_v)
        error_x, error_y = (a - b for a, b in zip(distort(u, v, lens), (x, y), strict=True))
        scale = 1.0 / torch.where(regular, determinant, torch.ones_like(determinant))
        step_u = (scale * (yy * error_x - cross * error_y)).clamp(-LONGEST_STEP, LONGEST_STEP)
        step_v = (scale * (xx * error_y - cross * error_x)).clamp(-LONGEST_STEP, LONGEST_STEP)
        # Beyond the fold Newton steps lead to another root or to none: go half of the way back instead.
        u = torch.where(regular, u - step_u, 0.5 * (u + inner_u))
        v = torch.where(regular, v - step_v, 0.5 * (v + inner_v))
    return u, v


def fold_radius(lens: Coefficients[float]) -> float:
    """Return the distance from the axis at which the radial polynomial folds over.

    Up to it, the distorted distance grows with the distance. Beyond it, points would come back into the image, which no
    lens does.

    Args:
        lens: the distortion coefficients.

    Returns:
        Distance on the plane at distance 1; infinity if the polynomial does not fold over.
    """
    derivative = np.array(
        [9.0 * lens.k4, 7.0 * lens.k3, 5.0 * lens.k2, 3.0 * lens.k1, 1.0]
    )  # coefficients of powers of r^2
    roots = np.roots(derivative)
    real = roots.real[(np.abs(roots.imag) < 1e-9) & (roots.real > 0.0)]  # a double root's halves differ by rounding
    return math.sqrt(real.min()) if len(real) else math.inf


def _jacobian(u: Tensor, v: Tensor, lens: Coefficients[float | Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the derivatives of :func:`distort`: dx'/dx, dx'/dy and dy'/dy.

    dy'/dx equals dx'/dy, because the model is the gradient of a potential.
    """
    r2 = u * u + v * v
    radial = _radial(r2, lens)
    # 2 d(radial) / d(r2): the 2 is that of 2 u and 2 v in the chain rule
    slope = 2.0 * (lens.k1 + r2 * (2.0 * lens.k2 + r2 * (3.0 * lens.k3 + r2 * (4.0 * lens.k4))))
    return (
        radial + slope * u * u + 2.0 * lens.p1 * v + 6.0 * lens.p2 * u,
        slope * u * v + 2.0 * (lens.p1 * u + lens.p2 * v),
        radial + slope * v * v + 2.0 * lens.p2 * u + 6.0 * lens.p1 * v,
    )
