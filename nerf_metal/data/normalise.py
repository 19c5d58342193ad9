"""Where a capture lies in the scene: upright, centred, and what the cameras look at in the cube [-1, 1]^3.

A walk round a thing, or along one, gets that cube and further ones, each twice as large, for what is behind. Captures
whose cameras all look one way, of a scene of known depth, get one box that holds all their frustums from the nearest to
the farthest depth. That is the same volume as the normalised device coordinates of Mildenhall et al. 2020 (appendix C),
without their price: there distances along a ray would no longer be in world units, directions no longer of unit norm,
and meshes and depths would have to be bent back.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from nerf_metal.data.cameras import Intrinsics
from nerf_metal.data.readers.capture import Array, Capture

MOST_CASCADES = 8  # of the kernel that marches through the occupancy grid
UNKNOWN_CASCADES = 5
"""Where nothing says how far the background is: 16 times as far as the box; beyond it parallax is less than a pixel."""
LEVEL = 0.1
"""How far off level cameras are held by hand, in radians."""
NEAR_FRACTION = 0.1
"""Of the distance to what the cameras look at: nobody holds a thing nearer to the lens than that on purpose, and
density there would be seen by one camera alone."""
SLACK = 0.1  # surfaces reach a little beyond the points and bounds that were found on them
SOME_POINTS = 5000  # give percentiles to a percent


class Placement(NamedTuple):
    """How a capture lies in its scene.

    Attributes:
        capture_to_scene: float64 ``[4, 4]``, a similarity.
        aabb: float64 ``[2, 3]``, the finest box.
        cascades: boxes.
        near: least distance along a ray.
        far: greatest distance along a ray.
        notes: sentences for the person.
    """

    capture_to_scene: Array
    aabb: Array
    cascades: int
    near: float
    far: float
    notes: list[str]

    def poses(self, poses: Array) -> Array:
        """Camera-to-world matrices ``[N, 4, 4]`` in the scene: turned and moved, their axes still of length 1."""
        placed = self.capture_to_scene @ poses
        placed[:, :3, :3] /= np.cbrt(np.linalg.det(self.capture_to_scene[:3, :3]))
        return placed

    def positions(self, points: Array) -> Array:
        """Points ``[P, 3]`` in the scene."""
        placed: Array = points @ self.capture_to_scene[:3, :3].T + self.capture_to_scene[:3, 3]
        return placed


def place(capture: Capture, orient: bool = True, scene_scale: float = 1.0, cascades: int | None = None) -> Placement:
    """Place a capture.

    Args:
        capture: its cameras, and points or bounds if there are some.
        orient: turn it upright (z up); forward-facing ones also look along +y.
        scene_scale: enlarge it by this factor about the middle of the boxes, which stay as they are.
        cascades: boxes; None: as many as hold the points, or as ``aabb_scale`` says, or `UNKNOWN_CASCADES`; 1 for a
            forward-facing capture.
    """
    depths = _depths(capture)
    bounds = capture.bounds or (None if depths is None else tuple(np.percentile(depths, (0.5, 99.5)).tolist()))
    if capture.forward_facing and bounds is not None:
        return _frustum(capture, orient, scene_scale, cascades or 1, bounds)
    return _surroundings(capture, orient, scene_scale, cascades, bounds)


def _frustum(
    capture: Capture, orient: bool, scene_scale: float, cascades: int, bounds: tuple[float, float]
) -> Placement:
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
    # t is at least the depth, and at most the depth times the length of a ray to an image's corner
    reach = far * float(np.linalg.norm(corners, axis=-1).max())
    notes = [f"cameras look the same way, at depths of {bounds[0]:.4g} to {bounds[1]:.4g}: one box holds what they see"]
    unit = scale * scene_scale
    return Placement(to_scene, np.stack((-box, box)), cascades, near * unit, reach * unit, notes)


def _surroundings(
    capture: Capture, orient: bool, scene_scale: float, cascades: int | None, bounds: tuple[float, float] | None
) -> Placement:
    poses, notes = capture.poses, []
    turn = np.eye(3)
    if orient:
        up, sideways = upright(poses)
        turn = _turn_to_z(up)
        if sideways:
            notes.append("photographs lie on their side: what is up was found from the cameras' level axes")
    positions, gaze = poses[:, :3, 3], -poses[:, :3, 2]
    centre = focus(positions, gaze)
    ahead = ((centre - positions) * gaze).sum(1)
    aside = np.linalg.norm(centre - positions - ahead[:, None] * gaze, axis=1)
    # Half as wide as what is seen at a thing's distance, along the image's longer side: the thing fits into that.
    spread = np.array([_half_view(frame.camera) for frame in capture.frames])
    if np.median(aside) < 0.5 * np.median(ahead):  # the thing in the middle half of most pictures
        distance = float(np.median(ahead))
        half = float(np.median(np.maximum(ahead, 0.0) * spread))
        if capture.points is not None and len(capture.points):
            extent = float(np.percentile(np.abs(capture.points - centre).max(1), 95))
            half = min(half, max((1.0 + SLACK) * extent, 0.5 * half))  # surfaces without a pattern have no points
    else:
        notes.append("cameras do not look at one thing: the box is around the cameras")
        centre = np.median(positions, 0)
        half = 2.0 * float(np.percentile(np.abs(positions - centre).max(1), 95)) or 1.0
        distance = half
    near = NEAR_FRACTION * distance
    if bounds is not None:
        near = max(near, 0.5 * bounds[0])  # of two points on a line of sight, the nearer was not always found
    if cascades is None:
        cascades = _boxes(capture, centre, half)
    scale = scene_scale / half
    to_scene = _similarity(turn, -turn @ centre, scale)
    corner = 2.0 ** (cascades - 1) * math.sqrt(3.0)
    far = corner + scale * float(np.linalg.norm(positions - centre, axis=1).max())
    return Placement(to_scene, np.array([[-1.0] * 3, [1.0] * 3]), cascades, near * scale, far, notes)


def _boxes(capture: Capture, centre: Array, half: float) -> int:
    """Cascades that hold the scene's background."""
    if capture.points is not None and len(capture.points):
        extent = float(np.percentile(np.abs(capture.points - centre).max(1), 99))
        # One box more: the background is often too plain or blurred to have points.
        count = 2 + math.ceil(math.log2(max(extent / half, 1.0)))
    elif capture.aabb_scale is not None and capture.aabb_scale > 0:
        count = 1 + math.ceil(math.log2(max(capture.aabb_scale, 1.0)))
    elif capture.bounds is not None:
        count = 1 + math.ceil(math.log2(max(capture.bounds[1] / half, 1.0)))
    else:
        count = UNKNOWN_CASCADES
    return min(count, MOST_CASCADES)


def focus(positions: Array, gaze: Array) -> Array:
    """The point nearest to all optical axes, by the sum of distances, which a few stray cameras hardly move.

    Args:
        positions: of the cameras, ``[N, 3]``.
        gaze: unit directions, ``[N, 3]``.
    """
    across = np.eye(3) - gaze[:, :, None] * gaze[:, None, :]
    weight = np.ones(len(positions))
    point = positions.mean(0)
    for _ in range(50):  # reweighted least squares halve the error about each time
        matrix = np.einsum("n,nij->ij", weight, across)
        # A pull towards the cameras, too weak to matter unless all axes are parallel.
        pull = 1e-6 * weight.sum()
        right = np.einsum("n,nij,nj->i", weight, across, positions) + pull * positions.mean(0)
        point = np.linalg.solve(matrix + pull * np.eye(3), right)
        distance = np.linalg.norm(np.einsum("nij,nj->ni", across, point - positions), axis=1)
        weight = 1.0 / np.maximum(distance, 1e-3 * np.median(distance) + 1e-12)
    return point


def upright(poses: Array) -> tuple[Array, bool]:
    """Which way is up, as a unit vector, and whether the photographs lie on their side.

    Cameras are held level: the images' horizontal axes are perpendicular to the vertical, up to `LEVEL`, however far
    down they look, and the images' upper edges are up on average. Where a phone was held upright and its pictures were
    stored lying, it is the images' vertical axes that are level, and whether left or right is up is found from cameras
    looking down rather than up.
    """
    right, up, gaze = poses[:, :3, 0], poses[:, :3, 1], -poses[:, :3, 2]
    spread_right, spread_up = (np.linalg.svd(axes, compute_uv=False) / math.sqrt(len(poses)) for axes in (right, up))
    # Axes that stay in a plane and turn in it by 0.3, some 20 degrees either way: so do a lying picture's vertical
    # ones, on a walk round a thing, but an upright picture's only where the camera looks straight down.
    sideways = bool(len(poses) > 2 and spread_up[2] < 0.5 * spread_right[2] and spread_up[1] > 0.3)
    level, top = (up, right) if sideways else (right, up)
    found = np.linalg.solve(level.T @ level / len(poses) + LEVEL**2 * np.eye(3), top.mean(0))
    if not np.linalg.norm(found) > 0:
        found = np.array([0.0, 0.0, 1.0])
    found = _unit(found)
    return (-found if sideways and gaze.mean(0) @ found > 0 else found), sideways


def _depths(capture: Capture) -> Array | None:
    """Depths of the capture's points in the images that they are in; None without points."""
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
    """Camera-space points ``[4, 3]`` at depth 1 behind an image's corners, of the pinhole."""
    x = (np.array([0, camera.width, 0, camera.width]) - camera.cx) / camera.fl_x
    y = (np.array([0, 0, camera.height, camera.height]) - camera.cy) / camera.fl_y
    return np.stack((x, -y, -np.ones(4)), -1)


def _half_view(camera: Intrinsics) -> float:
    return 0.5 * max(camera.width / camera.fl_x, camera.height / camera.fl_y)


def _unit(vector: Array) -> Array:
    return vector / np.linalg.norm(vector)


def _similarity(turn: Array, shift: Array, scale: float) -> Array:
    """Turn, then shift, then scale."""
    matrix = np.eye(4)
    matrix[:3, :3] = scale * turn
    matrix[:3, 3] = scale * shift
    return matrix


def _turn_to_z(up: Array) -> Array:
    """The least rotation that takes a unit vector to +z."""
    if up[2] < -1.0 + 1e-9:
        return np.diag([1.0, -1.0, -1.0])
    axis = np.cross(up, (0.0, 0.0, 1.0))
    x, y, z = axis
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + cross + cross @ cross / (1.0 + up[2])
