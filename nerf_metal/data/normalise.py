"""Placement of a capture in its scene: upright, centered, with what the cameras look at in the cube [-1, 1]^3.

A walk around an object or along one gets that cube, and further boxes (cascades) for the background, each twice as
large as the one before. A forward-facing capture of known depth gets one box that holds the frustums of all cameras
from the nearest to the farthest depth. That is the volume of the normalized device coordinates of Mildenhall et al.
2020 (appendix C), without their price: distances along a ray stay in world units, directions keep unit length, and
meshes and depths need not be bent back.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from nerf_metal.data.cameras import Intrinsics
from nerf_metal.data.poses import Array, forward_facing, upright
from nerf_metal.data.readers.capture import Capture
from nerf_metal.util.geometry import robust_point_nearest_to_lines
from nerf_metal.util.limits import MOST_CASCADES

UNKNOWN_CASCADES = 5
"""Number of cascades where nothing says how far away the background is: the last one reaches 16 times as far as the
first. Beyond it, parallax is less than a pixel."""
NEAR_FRACTION = 0.1
"""Near distance as a part of the distance to what the cameras look at. Nobody holds an object nearer to the lens than
that on purpose, and density there would be seen by one camera alone."""
SLACK = 0.1  # surfaces reach a little beyond the points and bounds that were found on them
SOME_POINTS = 5000  # enough to give percentiles to a percent


class Placement(NamedTuple):
    """The place of a capture in its scene.

    Attributes:
        capture_to_scene: similarity from the capture's coordinates to the scene's, float64 ``[4, 4]``.
        aabb: the box of the finest cascade in scene units, float64 ``[2, 3]``, least corner first.
        cascades: number of cascades.
        near: least distance along a ray, scene units.
        far: greatest distance along a ray, scene units.
        notes: sentences for the user about what was found.
    """

    capture_to_scene: Array
    aabb: Array
    cascades: int
    near: float
    far: float
    notes: list[str]

    def poses(self, poses: Array) -> Array:
        """Bring poses into the scene.

        Args:
            poses: camera-to-world matrices in the capture's coordinates, float64 ``[N, 4, 4]``.

        Returns:
            The poses in the scene's coordinates, float64 ``[N, 4, 4]``. Their axes keep unit length.
        """
        placed = self.capture_to_scene @ poses
        placed[:, :3, :3] /= np.cbrt(np.linalg.det(self.capture_to_scene[:3, :3]))
        return placed

    def positions(self, points: Array) -> Array:
        """Bring points, float64 ``[P, 3]``, from the capture's coordinates into the scene's."""
        placed: Array = points @ self.capture_to_scene[:3, :3].T + self.capture_to_scene[:3, 3]
        return placed


def place(capture: Capture, orient: bool = True, scene_scale: float = 1.0, cascades: int | None = None) -> Placement:
    """Place a capture in its scene.

    Args:
        capture: the cameras, with points or bounds if the capture has them.
        orient: turn the capture upright (z up). A forward-facing capture then also looks along +y.
        scene_scale: factor that enlarges the capture about the middle of the boxes. The boxes stay as they are.
        cascades: number of cascades. None chooses it: 1 for a forward-facing capture, else as many as hold the points,
            or as ``aabb_scale`` or the bounds say, or `UNKNOWN_CASCADES`.

    Returns:
        The placement.
    """
    depths = _depths(capture)
    bounds = capture.bounds or (None if depths is None else tuple(np.percentile(depths, (0.5, 99.5)).tolist()))
    if forward_facing(capture.poses) and bounds is not None:
        return _frustum(capture, orient, scene_scale, cascades or 1, bounds)
    return _surroundings(capture, orient, scene_scale, cascades, bounds)


def _frustum(
    capture: Capture, orient: bool, scene_scale: float, cascades: int, bounds: tuple[float, float]
) -> Placement:
    """Place a forward-facing capture: one box around the frustums from the nearest to the farthest depth."""
    near, far = bounds[0] * (1.0 - SLACK), bounds[1] * (1.0 + SLACK)
    poses = capture.poses
    turn = np.eye(3)
    if orient:
        forward = -_unit(poses[:, :3, 2].mean(0))
        up = poses[:, :3, 1].mean(0)
        right = _unit(np.cross(forward, up))
        turn = np.stack((right, forward, np.cross(right, forward)))
    corners = np.stack([_corners(frame.camera) for frame in capture.frames])  # [N, 4, 3] at depth 1
    along = np.einsum("nij,nkj->nki", poses[:, :3, :3], corners)
    position = poses[:, None, :3, 3]
    seen = np.concatenate([position + near * along, position + far * along]).reshape(-1, 3) @ turn.T
    low, high = seen.min(0), seen.max(0)
    half = 0.5 * (high - low)
    scale = 1.0 / half.max()
    to_scene = _similarity(turn, -0.5 * (low + high), scale * scene_scale)
    box = half * scale
    # The distance along a ray is at least the depth, and at most the depth times the length of a ray to a corner.
    reach = far * float(np.linalg.norm(corners, axis=-1).max())
    notes = [f"cameras look the same way, at depths of {bounds[0]:.4g} to {bounds[1]:.4g}: one box holds what they see"]
    unit = scale * scene_scale
    return Placement(to_scene, np.stack((-box, box)), cascades, near * unit, reach * unit, notes)


def _surroundings(
    capture: Capture, orient: bool, scene_scale: float, cascades: int | None, bounds: tuple[float, float] | None
) -> Placement:
    """Place any other capture: a cube around what the cameras look at, or around the cameras."""
    poses, notes = capture.poses, []
    turn = np.eye(3)
    if orient:
        up, sideways = upright(poses)
        turn = _turn_to_z(up)
        if sideways:
            notes.append("photographs lie on their side: the direction up was found from the level axes of the cameras")
    positions, gaze = poses[:, :3, 3], -poses[:, :3, 2]
    centre = robust_point_nearest_to_lines(positions, gaze)
    ahead = ((centre - positions) * gaze).sum(1)
    aside = np.linalg.norm(centre - positions - ahead[:, None] * gaze, axis=1)
    # Half the width of what is seen at the object's distance, along the longer side of the image: the object fits in.
    half_views = np.array([_half_view(frame.camera) for frame in capture.frames])
    if np.median(aside) < 0.5 * np.median(ahead):  # the object is in the middle half of most images
        distance = float(np.median(ahead))
        half = float(np.median(np.maximum(ahead, 0.0) * half_views))
        if capture.points is not None and len(capture.points):
            extent = float(np.percentile(np.abs(capture.points - centre).max(1), 95))
            half = min(half, max((1.0 + SLACK) * extent, 0.5 * half))  # surfaces without a pattern have no points
    else:
        notes.append("cameras do not look at one object: the box is around the cameras")
        centre = np.median(positions, 0)
        half = 2.0 * float(np.percentile(np.abs(positions - centre).max(1), 95)) or 1.0
        distance = half
    near = NEAR_FRACTION * distance
    if bounds is not None:
        near = max(near, 0.5 * bounds[0])  # the nearest surfaces do not always have points
    if cascades is None:
        cascades = _boxes(capture, centre, half)
    scale = scene_scale / half
    to_scene = _similarity(turn, -turn @ centre, scale)
    corner = 2.0 ** (cascades - 1) * math.sqrt(3.0)
    far = corner + scale * float(np.linalg.norm(positions - centre, axis=1).max())
    return Placement(to_scene, np.array([[-1.0] * 3, [1.0] * 3]), cascades, near * scale, far, notes)


def _boxes(capture: Capture, centre: Array, half: float) -> int:
    """Return the number of cascades that hold the background of the scene."""
    if capture.points is not None and len(capture.points):
        extent = float(np.percentile(np.abs(capture.points - centre).max(1), 99))
        # One cascade more: the background is often too plain or too blurred to have points.
        count = 2 + math.ceil(math.log2(max(extent / half, 1.0)))
    elif capture.aabb_scale is not None and capture.aabb_scale > 0:
        count = 1 + math.ceil(math.log2(max(capture.aabb_scale, 1.0)))
    elif capture.bounds is not None:
        count = 1 + math.ceil(math.log2(max(capture.bounds[1] / half, 1.0)))
    else:
        count = UNKNOWN_CASCADES
    return min(count, MOST_CASCADES)


def _depths(capture: Capture) -> Array | None:
    """Return the depths of the points in the images that show them, ``[D]``, or None where there are none."""
    if capture.points is None or not len(capture.points):
        return None
    points = capture.points[:: 1 + len(capture.points) // SOME_POINTS]
    found = []
    for frame in capture.frames:
        x, y, z = ((points - frame.c2w[:3, 3]) @ frame.c2w[:3, :3]).T
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            column = frame.camera.fl_x * x / -z + frame.camera.cx
            row = frame.camera.fl_y * y / z + frame.camera.cy
        inside = (z < 0) & (column > 0) & (column < frame.camera.width) & (row > 0) & (row < frame.camera.height)
        found.append(-z[inside])
    depths = np.concatenate(found)
    return depths if len(depths) else None


def _corners(camera: Intrinsics) -> Array:
    """Return where the rays of a pinhole through the image's corners reach depth 1, camera space ``[4, 3]``."""
    x = (np.array([0, camera.width, 0, camera.width]) - camera.cx) / camera.fl_x
    y = (np.array([0, 0, camera.height, camera.height]) - camera.cy) / camera.fl_y
    return np.stack((x, -y, -np.ones(4)), -1)


def _half_view(camera: Intrinsics) -> float:
    """Return half the width of what the camera sees at distance 1, along the longer side of the image."""
    return 0.5 * max(camera.width / camera.fl_x, camera.height / camera.fl_y)


def _unit(vector: Array) -> Array:
    return vector / np.linalg.norm(vector)


def _similarity(turn: Array, shift: Array, scale: float) -> Array:
    """Return the matrix ``[4, 4]`` that turns, then shifts, then scales."""
    matrix = np.eye(4)
    matrix[:3, :3] = scale * turn
    matrix[:3, 3] = scale * shift
    return matrix


def _turn_to_z(up: Array) -> Array:
    """Return the smallest rotation ``[3, 3]`` that takes a unit vector to +z."""
    if up[2] < -1.0 + 1e-9:
        return np.diag([1.0, -1.0, -1.0])
    axis = np.cross(up, (0.0, 0.0, 1.0))
    x, y, z = axis
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + cross + cross @ cross / (1.0 + up[2])
