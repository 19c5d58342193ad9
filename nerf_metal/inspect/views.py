"""The cameras of a scene as arrays, and the point that they look at."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nerf_metal.data.cameras import Intrinsics
from nerf_metal.data.scene import Scene
from nerf_metal.util.geometry import across_lines, point_nearest_to_lines

Array = NDArray[np.float64]
PARALLEL = 0.01
"""The least mean square sine of the angles between the optical axes, 6 degrees: below it, the point nearest to all axes
means nothing."""


@dataclass(frozen=True, eq=False)
class Views:
    """The cameras of all splits of a scene as float64 arrays, in scene coordinates.

    Attributes:
        scene: the scene.
    """

    scene: Scene

    @cached_property
    def names(self) -> list[str]:
        """The names of all views."""
        return [name for split in self.scene.splits.values() for name in split.names]

    @cached_property
    def c2w(self) -> Array:
        """The poses (camera-to-world) ``[N, 4, 4]``."""
        return np.concatenate([split.c2w.double().numpy() for split in self.scene.splits.values()])

    @cached_property
    def cameras(self) -> list[Intrinsics]:
        """The intrinsics of each view."""
        return [split.camera(i) for split in self.scene.splits.values() for i in range(len(split))]

    @property
    def positions(self) -> Array:
        """The camera positions ``[N, 3]``."""
        return self.c2w[:, :3, 3]

    @property
    def directions(self) -> Array:
        """The viewing directions, unit vectors ``[N, 3]``."""
        return -self.c2w[:, :3, 2]

    @property
    def extent(self) -> float:
        """The diagonal of the box around all camera positions."""
        return float(np.linalg.norm(np.ptp(self.positions, axis=0)))

    @property
    def box(self) -> Array:
        """The scene's box ``[2, 3]``."""
        return self.scene.aabb.double().numpy()

    @property
    def capture_scale(self) -> float:
        """The length of a capture unit in scene units."""
        return float(np.cbrt(np.linalg.det(self.scene.capture_to_scene[:3, :3].numpy())))

    @cached_property
    def capture_poses(self) -> Array:
        """The poses in capture coordinates, as the capture has them, ``[N, 4, 4]``."""
        poses: Array = np.linalg.inv(self.scene.capture_to_scene.numpy()) @ self.c2w
        poses[:, :3, :3] *= self.capture_scale
        return poses

    def crossings(self) -> tuple[Array, Array]:
        """Return the distances at which each optical axis enters and leaves the box, ``[N]`` each.

        An axis misses the box if it leaves before it enters, or if it leaves behind the camera.
        """
        with np.errstate(divide="ignore"):
            planes = (self.box[:, None] - self.positions) / np.where(self.directions == 0, 1e-12, self.directions)
        return planes.min(0).max(-1), planes.max(0).min(-1)


def fields_of_view(camera: Intrinsics) -> tuple[float, float]:
    """Return the full horizontal and vertical field of view, degrees, of the camera without its distortion."""
    lengths = ((camera.width, camera.fl_x), (camera.height, camera.fl_y))
    return tuple(math.degrees(2 * math.atan(0.5 * size / focal)) for size, focal in lengths)  # type: ignore[return-value]


class Focus(NamedTuple):
    """How a set of cameras looks at the point that is nearest to all their optical axes.

    Attributes:
        share: the fraction of the cameras that have the point in front of them.
        blur: the median distance of the optical axes from the point, relative to ``distance``.
        distance: the median distance of the cameras from the point.
    """

    share: float
    blur: float
    distance: float


def focus(c2w: NDArray[np.floating]) -> Focus | None:
    """Find the point nearest to all optical axes by least squares, and return how the cameras look at it.

    Return None if the axes are nearly parallel, or if the cameras stand in that point.

    Args:
        c2w: poses ``[N, 4, 4]``.
    """
    positions, directions = c2w[:, :3, 3], -c2w[:, :3, 2]
    across = across_lines(directions)
    if np.linalg.eigvalsh(across.mean(0))[0] < PARALLEL:
        return None
    point = point_nearest_to_lines(positions, directions)
    to = point - positions
    distance = float(np.median(np.linalg.norm(to, axis=-1)))
    if distance < 1e-6 * (1.0 + np.abs(positions).max()):
        return None
    blur = float(np.median(np.linalg.norm((across @ to[..., None])[..., 0], axis=-1))) / distance
    return Focus(float(((to * directions).sum(-1) > 0).mean()), blur, distance)
