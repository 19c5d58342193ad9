"""What the poses of a capture have in common: one direction of view, and which way is up."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from nerf_metal.util.geometry import Array

FORWARD_FACING_DEGREES = 30.0
"""Cameras of a forward-facing capture look within this angle of their mean direction. In LLFF's fern the farthest
camera is 10 degrees off. In fox, a walk along one side of an object, the farthest is 52 degrees off and half of the
cameras are more than 34 degrees off; every capture around an object has larger angles."""
HAND_TILT = 0.1
"""Angle in radians by which a camera that is held by hand is off level."""


def forward_facing(c2w: Array | Tensor) -> bool:
    """Decide whether a capture is forward-facing: every camera looks within `FORWARD_FACING_DEGREES` of the mean.

    Every camera counts, because one box must hold all their frustums (:func:`nerf_metal.data.normalise.place`).

    Args:
        c2w: camera-to-world matrices ``[N, 4, 4]`` with OpenGL axes, on the CPU.
    """
    gaze = -np.asarray(c2w, dtype=np.float64)[:, :3, 2]
    mean = gaze.mean(0)
    norm = float(np.linalg.norm(mean))
    return norm > 0 and bool((gaze @ (mean / norm) > math.cos(math.radians(FORWARD_FACING_DEGREES))).all())


def upright(poses: Array) -> tuple[Array, bool]:
    """Find which way is up, and whether the photographs lie on their side.

    People hold cameras level: however far down they look, the horizontal axes of the images are perpendicular to the
    vertical, within `HAND_TILT`, and the upper edges of the images are up on average. Where a phone was held upright
    and its photographs were stored lying, the vertical axes of the images are level instead. Cameras look down more
    often than up, which tells left from right then.

    Args:
        poses: camera-to-world matrices, float64 ``[N, 4, 4]``.

    Returns:
        The direction up, a unit vector float64 ``[3]``, and True where the photographs lie on their side.
    """
    right, up, gaze = poses[:, :3, 0], poses[:, :3, 1], -poses[:, :3, 2]
    spread_right, spread_up = (np.linalg.svd(axes, compute_uv=False) / math.sqrt(len(poses)) for axes in (right, up))
    # The level axes stay in a plane and turn in it by 0.3, about 20 degrees either way. On a walk around an object the
    # vertical axes of lying photographs do so. Those of upright photographs do so only if the camera looks straight
    # down.
    sideways = bool(len(poses) > 2 and spread_up[2] < 0.5 * spread_right[2] and spread_up[1] > 0.3)
    level, top = (up, right) if sideways else (right, up)
    found = np.linalg.solve(level.T @ level / len(poses) + HAND_TILT**2 * np.eye(3), top.mean(0))
    if not np.linalg.norm(found) > 0:
        found = np.array([0.0, 0.0, 1.0])
    found = found / np.linalg.norm(found)
    return (-found if sideways and gaze.mean(0) @ found > 0 else found), sideways
