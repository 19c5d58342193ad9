"""Camera conventions: the one file that owns them.

World: right-handed. Poses: camera-to-world 4x4 matrices (``c2w``) with OpenGL axes: the columns are the
camera's right (x), up (y) and back (z) axes and its position; a camera looks along its own -z. Pixels: x to
the right, y down, the centre of pixel (0, 0) at (0.5, 0.5) of an image that spans (0, 0) to (width, height).
Ray directions have unit norm, so the distance t along a ray is in world units.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nerf_metal.errors import InputError

RIGID_TOLERANCE = 1e-3  # wide enough for poses printed with 4 digits, far below any real scale or shear


@dataclass(frozen=True)
class Intrinsics:
    """A pinhole camera without distortion; every length in pixels.

    Attributes:
        fl_x: focal length along x.
        fl_y: focal length along y.
        cx: principal point's x, from the image's left edge.
        cy: principal point's y, from the image's top edge.
        width: image width.
        height: image height.
    """

    fl_x: float
    fl_y: float
    cx: float
    cy: float
    width: int
    height: int

    @classmethod
    def from_fov_x(cls, camera_angle_x: float, width: int, height: int) -> "Intrinsics":
        """Square pixels, principal point in the middle: ``fl = width / 2 / tan(camera_angle_x / 2)``.

        Args:
            camera_angle_x: full horizontal angle of view in radians, in (0, pi).
            width: image width in pixels.
            height: image height in pixels.

        Raises:
            InputError: the angle is not finite or not in (0, pi), or the size is not positive.
        """
        if not 0.0 < camera_angle_x < math.pi:
            raise InputError(
                f"[Intrinsics.from_fov_x] camera_angle_x must be in (0, pi) radians, got {camera_angle_x!r}; "
                "give the full horizontal angle of view in radians"
            )
        if width < 1 or height < 1:
            raise InputError(
                f"[Intrinsics.from_fov_x] width and height must be at least 1 pixel, got {width}x{height}; "
                "give the image's size"
            )
        focal = 0.5 * width / math.tan(0.5 * camera_angle_x)
        return cls(focal, focal, 0.5 * width, 0.5 * height, width, height)

    def scaled(self, factor: float) -> "Intrinsics":
        """The same camera for an image `factor` times as large (0.5 halves it).

        The new size is rounded to whole pixels, and focal lengths and principal point follow the rounded
        size, so that the angle of view stays exactly what it was.

        Raises:
            InputError: the factor is not positive and finite, or leaves less than one pixel.
        """
        if not (math.isfinite(factor) and factor > 0.0):
            raise InputError(
                f"[Intrinsics.scaled] factor must be positive and finite, got {factor!r}; 0.5 halves the image"
            )
        width, height = round(self.width * factor), round(self.height * factor)
        if width < 1 or height < 1:
            raise InputError(
                f"[Intrinsics.scaled] factor must leave at least one pixel of {self.width}x{self.height}, "
                f"got {factor!r}; use a larger factor"
            )
        along_x, along_y = width / self.width, height / self.height
        return Intrinsics(self.fl_x * along_x, self.fl_y * along_y, self.cx * along_x, self.cy * along_y, width, height)


def pixel_rays(c2w: Tensor, intrinsics: Intrinsics, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Rays through pixel centres (Mildenhall et al. 2020, "NeRF", section 4, with centres at +0.5).

    Args:
        c2w: ``[4, 4]`` or ``[..., 4, 4]``, one pose per pixel or shapes that broadcast with `pixels`.
        intrinsics: the camera of every pixel.
        pixels: ``[..., 2]`` column x and row y, integer or floating point. They count pixels, whatever the
            dtype: (0, 0) is the centre of the top left pixel, (-0.5, -0.5) the image's corner.

    Returns:
        rays_o ``[..., 3]`` (world units) and rays_d ``[..., 3]`` (unit norm), float32 on `c2w`'s device.
    """
    c2w = c2w.to(torch.float32)
    xy = pixels.to(device=c2w.device, dtype=torch.float32) + 0.5
    x = (xy[..., 0] - intrinsics.cx) / intrinsics.fl_x
    y = (intrinsics.cy - xy[..., 1]) / intrinsics.fl_y
    rotation = c2w[..., :3, :3]
    # x * right + y * up - back. Written out: a matmul of 3x3 matrices is slower than three products.
    rays_d = x[..., None] * rotation[..., 0] + y[..., None] * rotation[..., 1] - rotation[..., 2]
    rays_d = rays_d / torch.linalg.vector_norm(rays_d, dim=-1, keepdim=True)
    return c2w[..., :3, 3].expand_as(rays_d).contiguous(), rays_d


def image_rays(c2w: Tensor, intrinsics: Intrinsics) -> tuple[Tensor, Tensor]:
    """Rays through every pixel of one image, row by row (pixel x, y is row ``y * width + x``).

    Args:
        c2w: ``[4, 4]``.
        intrinsics: the camera.

    Returns:
        rays_o and rays_d ``[height * width, 3]``, as `pixel_rays`.
    """
    y, x = torch.meshgrid(
        torch.arange(intrinsics.height, device=c2w.device),
        torch.arange(intrinsics.width, device=c2w.device),
        indexing="ij",
    )
    return pixel_rays(c2w, intrinsics, torch.stack([x, y], dim=-1).reshape(-1, 2))


def look_at(eye: Tensor | Sequence[float], target: Tensor | Sequence[float], up: Tensor | Sequence[float]) -> Tensor:
    """The pose of a camera at `eye` that looks at `target` with `up` upwards in the image.

    Args:
        eye: position ``[..., 3]`` in world units, on the CPU (float64 inside, which MPS lacks).
        target: point in the middle of the image, ``[..., 3]``, broadcast with `eye`.
        up: world direction of any length, ``[3]`` or ``[..., 3]``.

    Returns:
        c2w ``[..., 4, 4]`` float32.

    Raises:
        InputError: eye and target coincide, or `up` is parallel to the line of sight.
    """
    eye64, target64, up64 = (torch.as_tensor(v, dtype=torch.float64) for v in (eye, target, up))
    back = eye64 - target64
    right = torch.linalg.cross(up64.expand_as(back), back)
    # sin(angle) below 1e-9 leaves no digits of a direction in float64's cross product worth having.
    norms = torch.linalg.vector_norm(back, dim=-1) * torch.linalg.vector_norm(up64, dim=-1)
    if not bool((torch.linalg.vector_norm(right, dim=-1) > 1e-9 * norms).all()):
        raise InputError(
            "[look_at] up must be neither zero nor parallel to the line from eye to target, "
            f"got eye {eye64.tolist()}, target {target64.tolist()}, up {up64.tolist()}; "
            "move the eye or tilt up"
        )
    right = right / torch.linalg.vector_norm(right, dim=-1, keepdim=True)
    back = back / torch.linalg.vector_norm(back, dim=-1, keepdim=True)
    c2w = torch.zeros((*back.shape[:-1], 4, 4), dtype=torch.float64, device=back.device)
    c2w[..., :3, :] = torch.stack([right, torch.linalg.cross(back, right), back, eye64.expand_as(back)], dim=-1)
    c2w[..., 3, 3] = 1.0
    return c2w.to(torch.float32)


def check_c2w(matrix: object, where: str) -> Tensor:
    """Check one camera-to-world matrix that came from a person's file or call.

    Args:
        matrix: nested lists, an array or a tensor.
        where: what the message starts with, without brackets: the caller, and the file and frame if there
            are.

    Returns:
        The matrix as float32 ``[4, 4]``.

    Raises:
        InputError: not 4x4 numbers, not finite, or not a rigid transform: rotation orthonormal within
            `RIGID_TOLERANCE` with determinant +1, last row 0 0 0 1.
    """
    try:
        m = np.asarray(matrix, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise InputError(
            f"[{where}] camera-to-world matrix must be 4x4 numbers, got {str(matrix)[:60]}; write four rows of four"
        ) from None
    if m.shape != (4, 4):
        raise InputError(
            f"[{where}] camera-to-world matrix must be 4x4, got shape {m.shape}; "
            "write four rows of four numbers, the last one 0 0 0 1"
        )
    if not np.isfinite(m).all():
        raise InputError(
            f"[{where}] camera-to-world matrix must be finite, got NaN or infinity; export the poses again"
        )
    if np.abs(m[3] - (0.0, 0.0, 0.0, 1.0)).max() > RIGID_TOLERANCE:
        raise InputError(
            f"[{where}] camera-to-world matrix must have the last row 0 0 0 1, got {m[3].tolist()}; "
            "check for a transposed matrix"
        )
    rotation = m[:3, :3]
    error = np.abs(rotation.T @ rotation - np.eye(3)).max()
    if error > RIGID_TOLERANCE:
        raise InputError(
            f"[{where}] camera-to-world matrix must have an orthonormal rotation within {RIGID_TOLERANCE}, "
            f"got one that is off by {error:.3g}; remove scale and shear from the pose"
        )
    if np.linalg.det(rotation) < 0.0:
        raise InputError(
            f"[{where}] camera-to-world matrix must have a rotation of determinant +1, "
            "got -1 (a reflection); flip one axis: columns are right, up, back"
        )
    return torch.from_numpy(m.astype(np.float32))
