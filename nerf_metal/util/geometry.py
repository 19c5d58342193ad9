"""Points and lines in space."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Floats = NDArray[np.floating]
PULL = 1e-6
"""Weight of the mean of the lines' points, beside the lines' own weights, in :func:`robust_point_nearest_to_lines`. It
decides only where all lines are parallel."""
ITERATIONS = 50
"""Of reweighted least squares: each halves the error about, and a float64 has 52 bits."""


def across_lines(directions: Floats) -> Array:
    """Return the projections ``I - d d^T`` that remove what is along each line.

    Args:
        directions: unit vectors, float64 ``[N, 3]``.

    Returns:
        float64 ``[N, 3, 3]``. Applied to the vector from a point of a line to ``x``, its length is the distance from
        ``x`` to the line.
    """
    projections: Array = np.eye(3) - directions[:, :, None] * directions[:, None, :]
    return projections


def point_nearest_to_lines(
    points: Floats, directions: Floats, weights: Floats | None = None, pull: float = 0.0
) -> Array:
    """Find the point whose squared distances to lines have the least weighted sum.

    Least squares: ``sum_i w_i A_i x = sum_i w_i A_i p_i`` with ``A_i = I - d_i d_i^T`` of :func:`across_lines`.

    Args:
        points: one point of each line, float64 ``[N, 3]``.
        directions: unit vectors, float64 ``[N, 3]``.
        weights: of each line, float64 ``[N]``; None gives every line the weight 1.
        pull: weight of the squared distance to the mean of `points`, as a part of the sum of `weights`. It makes the
            answer unique where the lines are parallel.

    Returns:
        float64 ``[3]``. Without `pull`, parallel lines give the point of the answers that is nearest to the mean of
        `points`.
    """
    weights = np.ones(len(points)) if weights is None else weights
    across, mean = across_lines(directions), points.mean(0)
    matrix = np.einsum("n,nij->ij", weights, across)
    if pull > 0:
        drawn = pull * weights.sum()
        right = np.einsum("n,nij,nj->i", weights, across, points) + drawn * mean
        pulled: Array = np.linalg.solve(matrix + drawn * np.eye(3), right)
        return pulled
    right = np.einsum("n,nij,nj->i", weights, across, points - mean)
    nearest: Array = mean + np.linalg.pinv(matrix, hermitian=True) @ right
    return nearest


def robust_point_nearest_to_lines(points: Floats, directions: Floats) -> Array:
    """Find the point whose distances to lines have the least sum, which a few stray lines hardly move.

    Iteratively reweighted least squares (Weiszfeld 1937): each line's weight is 1 / its distance.

    Args:
        points: one point of each line, float64 ``[N, 3]``.
        directions: unit vectors, float64 ``[N, 3]``.

    Returns:
        float64 ``[3]``.
    """
    across, weights = across_lines(directions), np.ones(len(points))
    nearest = points.mean(0)
    for _ in range(ITERATIONS):
        nearest = point_nearest_to_lines(points, directions, weights, PULL)
        distance = np.linalg.norm(np.einsum("nij,nj->ni", across, nearest - points), axis=1)
        # A line through the point must not get an infinite weight.
        weights = 1.0 / np.maximum(distance, 1e-3 * np.median(distance) + 1e-12)
    return nearest
