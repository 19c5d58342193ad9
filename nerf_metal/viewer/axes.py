"""Conversion between the cameras of the page and those of nerf_metal. No other file converts them.

A camera of viser has OpenCV axes (x right, y down, z forwards), a unit quaternion (w, x, y, z) and a position. A camera
of nerf_metal has OpenGL axes (:mod:`nerf_metal.data.cameras`). The world axes are the same: z is up in both.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation  # type: ignore[import-untyped]

from nerf_metal.data.cameras import Intrinsics

FLIP = np.array([1.0, -1.0, -1.0])
"""The signs that turn the columns right, up and back into viser's right, down and forward."""

Array = NDArray[np.float64]


def pose_of_page(wxyz: Array, position: Array) -> torch.Tensor:
    """Convert a camera of the page into a pose.

    Args:
        wxyz: unit quaternion ``[4]``.
        position: ``[3]``, world units.

    Returns:
        The pose (camera-to-world) ``[4, 4]``, float32.
    """
    c2w = np.eye(4)
    c2w[:3, :3] = Rotation.from_quat(np.roll(wxyz, -1)).as_matrix() * FLIP
    c2w[:3, 3] = position
    return torch.from_numpy(c2w.astype(np.float32))


def pose_for_page(c2w: torch.Tensor) -> tuple[Array, Array]:
    """Convert a pose ``[4, 4]`` into a camera of the page: quaternion ``[4]`` and position ``[3]``.

    This is the inverse of :func:`pose_of_page`.
    """
    matrix = c2w.detach().cpu().double().numpy()
    wxyz = np.roll(Rotation.from_matrix(matrix[:3, :3] * FLIP).as_quat(), 1)
    return wxyz, matrix[:3, 3].copy()


def camera_of_page(fov: float, aspect: float, width: int, height: int) -> Intrinsics:
    """Return the pinhole camera whose picture of ``width`` x ``height`` pixels covers the page.

    The pixels need not be square.

    Args:
        fov: vertical field of view, radians.
        aspect: width / height of the page.
        width: width of the picture, pixels.
        height: height of the picture, pixels.
    """
    half = math.tan(0.5 * fov)
    return Intrinsics(0.5 * width / (half * aspect), 0.5 * height / half, 0.5 * width, 0.5 * height, width, height)


def fov_and_aspect(camera: Intrinsics) -> tuple[float, float]:
    """Return the vertical field of view, radians, and the frustum's width / height, both without the lens
    distortion."""
    fov = 2.0 * math.atan(0.5 * camera.height / camera.fl_y)
    return fov, (camera.width / camera.fl_x) / (camera.height / camera.fl_y)
