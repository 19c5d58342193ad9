"""The point nearest to lines: exact where they meet, by least squares, defined for parallel lines, robust to strays."""

from __future__ import annotations

import numpy as np
import pytest

from nerf_metal.util.geometry import across_lines, point_nearest_to_lines, robust_point_nearest_to_lines


def _lines(count: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Lines through (1, 2, 3), from points around it."""
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return np.array((1.0, 2.0, 3.0)) + rng.uniform(1, 5, (count, 1)) * directions, directions


def test_lines_that_meet() -> None:
    points, directions = _lines()
    for found in (
        point_nearest_to_lines(points, directions),
        point_nearest_to_lines(points, directions, np.arange(1.0, 13.0)),
        robust_point_nearest_to_lines(points, directions),
    ):
        np.testing.assert_allclose(found, (1.0, 2.0, 3.0), atol=1e-5)


def test_two_skew_lines_by_hand() -> None:
    """The x axis, and a line along y at height 1: the middle is at height 1/2, or by weights 1 and 3 at 3/4."""
    points, directions = np.array([[5.0, 0.0, 0.0], [0.0, 7.0, 1.0]]), np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    assert point_nearest_to_lines(points, directions) == pytest.approx((0.0, 0.0, 0.5))
    assert point_nearest_to_lines(points, directions, np.array((1.0, 3.0))) == pytest.approx((0.0, 0.0, 0.75))
    distance = np.linalg.norm(across_lines(directions) @ np.array((0.0, 0.0, 0.5)), axis=1)
    assert distance == pytest.approx((0.5, 0.5))


@pytest.mark.parametrize("pull", [0.0, 1e-6])
def test_parallel_lines_give_the_answer_nearest_to_their_points(pull: float) -> None:
    points = np.array([[-1.0, 3.0, 0.0], [1.0, 5.0, 0.0]])
    directions = np.array([[0.0, 1.0, 0.0]] * 2)
    assert point_nearest_to_lines(points, directions, pull=pull) == pytest.approx((0.0, 4.0, 0.0))


def test_a_stray_line_moves_the_robust_point_less() -> None:
    points, directions = _lines()
    points[0] += 50.0
    least_squares = point_nearest_to_lines(points, directions)
    robust = robust_point_nearest_to_lines(points, directions)
    assert np.linalg.norm(robust - (1.0, 2.0, 3.0)) < 0.05 < 1.0 < np.linalg.norm(least_squares - (1.0, 2.0, 3.0))
