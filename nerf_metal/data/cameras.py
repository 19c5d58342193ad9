"""Cameras: intrinsics, poses and rays, and the conventions that the whole package uses for them.

- The world is right-handed.
- A pose is a camera-to-world 4x4 matrix (``c2w``) with OpenGL axes. Its columns are the camera's right (x), up (y) and
  back (z) axes and its position. A camera looks along its own -z.
- Pixel x counts to the right and y down. An image spans (0, 0) to (width, height); the centre of pixel (0, 0) is at
  (0.5, 0.5).
- Ray directions have unit norm, so the distance t along a ray is in world units.

:mod:`nerf_metal.data.lenses` has the lens distortion.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nerf_metal.data.lenses import distort, fold_radius, undistort
from nerf_metal.util.errors import InputError

RIGID_TOLERANCE = 1e-3  # wide enough for poses printed with 4 digits, far below any real scale or shear


@dataclass(frozen=True)
class Intrinsics:
    """Intrinsics of a camera: focal lengths, principal point, size and distortion. Every length is in pixels.

    Attributes:
        fl_x: focal length along x.
        fl_y: focal length along y.
        cx: x of the principal point, from the left edge of the image.
        cy: y of the principal point, from the top edge of the image.
        width: image width.
        height: image height.
        k1, k2, k3, k4: radial distortion (:func:`nerf_metal.data.lenses.distort`); 0 for a pinhole.
        p1, p2: tangential distortion; 0 for a pinhole.
    """

    fl_x: float
    fl_y: float
    cx: float
    cy: float
    width: int
    height: int
    k1: float = 0.0
    k2: float = 0.0
    k3: float = 0.0
    k4: float = 0.0
    p1: float = 0.0
    p2: float = 0.0

    @classmethod
    def from_fov_x(cls, camera_angle_x: float, width: int, height: int) -> "Intrinsics":
        """Make a pinhole with square pixels and the principal point in the middle, from its angle of view.

        The focal length is ``width / 2 / tan(camera_angle_x / 2)``.

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
        """Return the same camera for an image of another size.

        The new size is rounded to whole pixels. Focal lengths and principal point follow the rounded size, so that
        the angle of view stays the same.

        Args:
            factor: ratio of the new size to the old one; 0.5 halves the image.

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
        return self.stretched(width, height)

    def stretched(self, width: int, height: int) -> "Intrinsics":
        """Return the same camera for its image stretched to another size in pixels, each axis by its own factor."""
        along_x, along_y = width / self.width, height / self.height
        return dataclasses.replace(
            self,
            fl_x=self.fl_x * along_x,
            cx=self.cx * along_x,
            fl_y=self.fl_y * along_y,
            cy=self.cy * along_y,
            width=width,
            height=height,
        )

    def reduced(self, factor: int) -> "Intrinsics":
        """Return the camera of an image whose boxes of `factor` x `factor` pixels were averaged.

        Columns and rows that do not fill a box are cut off on the right and at the bottom. All lengths shrink by
        exactly the factor.

        Args:
            factor: side of a box in pixels, at least 1.

        Raises:
            InputError: less than one pixel would be left.
        """
        width, height = self.width // factor, self.height // factor
        if width < 1 or height < 1:
            raise InputError(
                f"[Intrinsics.reduced] factor must be at most {min(self.width, self.height)} for an image of "
                f"{self.width}x{self.height}, got {factor}; use a smaller one"
            )
        lengths = {name: getattr(self, name) / factor for name in ("fl_x", "fl_y", "cx", "cy")}
        return dataclasses.replace(self, **lengths, width=width, height=height)

    @property
    def distorted(self) -> bool:
        """True if any distortion coefficient is not 0."""
        return any(getattr(self, name) != 0.0 for name in DISTORTION)


DISTORTION = ("k1", "k2", "k3", "k4", "p1", "p2")


class Lenses(NamedTuple):
    """Intrinsics of many cameras as tensors, for rays through pixels of many images at once.

    The fields are those of :class:`Intrinsics` without the size, each float32 ``[...]``. `distorted` is True if any of
    the cameras has a distortion.
    """

    fl_x: Tensor
    fl_y: Tensor
    cx: Tensor
    cy: Tensor
    k1: Tensor
    k2: Tensor
    k3: Tensor
    k4: Tensor
    p1: Tensor
    p2: Tensor
    distorted: bool

    @classmethod
    def of(cls, cameras: Sequence[Intrinsics]) -> "Lenses":
        """Gather the intrinsics of ``N`` cameras into tensors ``[N]``."""
        names = cls._fields[:-1]
        columns = {
            name: torch.tensor([getattr(camera, name) for camera in cameras], dtype=torch.float32) for name in names
        }
        return cls(**columns, distorted=any(camera.distorted for camera in cameras))

    def at(self, index: Tensor) -> "Lenses":
        """Return the intrinsics of the images ``index [...]`` (int64), each ``[...]``."""
        used = len(self) - 1 if self.distorted else self._fields.index("k1")  # without distortion the rest is not read
        return self._replace(**{name: getattr(self, name)[index] for name in self._fields[:used]})


def pixel_rays(c2w: Tensor, intrinsics: Intrinsics | Lenses, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rays through pixel centres (Mildenhall et al. 2020, "NeRF", section 4, with centres at +0.5).

    The lens distortion is undone here, so that photographs are used as they were taken.

    Args:
        c2w: camera-to-world matrices ``[4, 4]`` or ``[..., 4, 4]``, of a shape that broadcasts with `pixels`.
        intrinsics: one camera for all pixels, or one for each pixel.
        pixels: column x and row y, ``[..., 2]``, integer or floating point. They count pixels, whatever the dtype:
            (0, 0) is the centre of the top left pixel, (-0.5, -0.5) is the corner of the image.

    Returns:
        Origins ``[..., 3]`` in world units and directions ``[..., 3]`` of unit norm, float32 on the device of `c2w`.
    """
    c2w = c2w.to(torch.float32)
    xy = pixels.to(device=c2w.device, dtype=torch.float32) + 0.5
    x = (xy[..., 0] - intrinsics.cx) / intrinsics.fl_x
    y = (xy[..., 1] - intrinsics.cy) / intrinsics.fl_y
    if intrinsics.distorted:
        x, y = undistort(x, y, intrinsics)
    rotation = c2w[..., :3, :3]
    # x * right - y * up - back. Written out: a matmul of 3x3 matrices is slower than three products.
    rays_d = x[..., None] * rotation[..., 0] - y[..., None] * rotation[..., 1] - rotation[..., 2]
    rays_d = rays_d / torch.linalg.vector_norm(rays_d, dim=-1, keepdim=True)
    return c2w[..., :3, 3].expand_as(rays_d).contiguous(), rays_d


def image_rays(c2w: Tensor, intrinsics: Intrinsics) -> tuple[Tensor, Tensor]:
    """Return the rays through every pixel of one image, row by row: pixel (x, y) is row ``y * width + x``.

    Args:
        c2w: camera-to-world matrix ``[4, 4]``.
        intrinsics: the camera.

    Returns:
        Origins and directions ``[height * width, 3]``, as :func:`pixel_rays` returns them.
    """
    y, x = torch.meshgrid(
        torch.arange(intrinsics.height, device=c2w.device),
        torch.arange(intrinsics.width, device=c2w.device),
        indexing="ij",
    )
    return pixel_rays(c2w, intrinsics, torch.stack([x, y], dim=-1).reshape(-1, 2))


def project(c2w: Tensor, intrinsics: Intrinsics, points: Tensor) -> tuple[Tensor, Tensor]:
    """Project points into an image: the inverse of :func:`pixel_rays`.

    Args:
        c2w: camera-to-world matrix ``[4, 4]``.
        intrinsics: the camera.
        points: points ``[..., 3]``, world units.

    Returns:
        Pixels ``[..., 2]`` (x, y; the centre of the top left pixel is (0, 0)) and depths ``[...]`` along the optical
        axis, world units. A pixel has no meaning if its depth is not positive. It is NaN if the point is farther to the
        side than the lens polynomial holds, because the polynomial would bring it back into the image.
    """
    c2w = c2w.to(points)
    local = (points - c2w[:3, 3]) @ c2w[:3, :3]  # x right, y up, z back
    depth = -local[..., 2]
    x, y = local[..., 0] / depth, -local[..., 1] / depth
    if intrinsics.distorted:
        beyond = torch.hypot(x, y) > fold_radius(intrinsics)
        x, y = (z.masked_fill(beyond, math.nan) for z in distort(x, y, intrinsics))
    pixels = (x * intrinsics.fl_x + intrinsics.cx - 0.5, y * intrinsics.fl_y + intrinsics.cy - 0.5)
    return torch.stack(pixels, dim=-1), depth


def look_at(eye: Tensor | Sequence[float], target: Tensor | Sequence[float], up: Tensor | Sequence[float]) -> Tensor:
    """Return the pose of a camera at `eye` that looks at `target`, with `up` upwards in the image.

    Args:
        eye: position ``[..., 3]`` in world units, on the CPU (the function uses float64, which MPS lacks).
        target: point in the middle of the image, ``[..., 3]``, of a shape that broadcasts with `eye`.
        up: direction in the world, ``[3]`` or ``[..., 3]``, of any length.

    Returns:
        Camera-to-world matrices ``[..., 4, 4]``, float32.

    Raises:
        InputError: eye and target coincide, or `up` is parallel to the line of sight.
    """
    eye64, target64, up64 = (torch.as_tensor(v, dtype=torch.float64) for v in (eye, target, up))
    back = eye64 - target64
    right = torch.linalg.cross(up64.expand_as(back), back)
    # If sin(angle) is below 1e-9, the cross product in float64 has too few correct digits.
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
    """Check one camera-to-world matrix from a user's file or call.

    Args:
        matrix: nested lists, an array or a tensor.
        where: start of the message without brackets: the caller, and the file and frame if there are any.

    Returns:
        The matrix as float32 ``[4, 4]``.

    Raises:
        InputError: the matrix is not 4x4 finite numbers or not a rigid transform: its rotation must be orthonormal
            within `RIGID_TOLERANCE` with determinant +1, and its last row 0 0 0 1.
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
