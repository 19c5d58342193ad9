"""Cameras of the page and ours: the one file that converts them.

viser's cameras have OpenCV axes (x right, y down, looking along +z), a unit quaternion (w, x, y, z) and a position;
ours OpenGL axes (:mod:`nerf_metal.data.cameras`). World axes are the same: z is up in both.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation  # type: ignore[import-untyped]

from nerf_metal.data.cameras import Intrinsics

FLIP = np.array([1.0, -1.0, -1.0])
"""Signs of the columns right, up and back as viser's right, down and forward."""

Array = NDArray[np.float64]


def pose_of_page(wxyz: Array, position: Array) -> torch.Tensor:
    """Our camera-to-world matrix ``[4, 4]``, float32."""
    c2w = np.eye(4)
    c2w[:3, :3] = Rotation.from_quat(np.roll(wxyz, -1)).as_matrix() * FLIP
    c2w[:3, 3] = position
    return torch.from_numpy(c2w.astype(np.float32))


def pose_for_page(c2w: torch.Tensor) -> tuple[Array, Array]:
    """The inverse of :func:`pose_of_page`: quaternion ``[4]`` and position ``[3]``."""
    matrix = c2w.detach().cpu().double().numpy()
    wxyz = np.roll(Rotation.from_matrix(matrix[:3, :3] * FLIP).as_quat(), 1)
    return wxyz, matrix[:3, 3].copy()


def camera_of_page(fov: float, aspect: float, width: int, height: int) -> Intrinsics:
    """The pinhole that covers the page with ``width`` x ``height`` pixels, which need not be square.

    Args:
        fov: vertical angle of view, radians.
        aspect: the page's width / height.
        width: of the picture, pixels.
        height: of the picture, pixels.
    """
    half = math.tan(0.5 * fov)
    return Intrinsics(0.5 * width / (half * aspect), 0.5 * height / half, 0.5 * width, 0.5 * height, width, height)


def fov_and_aspect(camera: Intrinsics) -> tuple[float, float]:
    """Vertical angle of view in radians, and width / height in the world: a frustum, without the lens' distortion."""
    fov = 2.0 * math.atan(0.5 * camera.height / camera.fl_y)
    return fov, (camera.width / camera.fl_x) / (camera.height / camera.fl_y)
