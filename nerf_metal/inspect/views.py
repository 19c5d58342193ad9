"""The cameras of a scene as arrays, and where they look."""

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
"""Mean square sine of the angles between axes, below which (6 degrees) where they meet means nothing."""


@dataclass(frozen=True, eq=False)
class Views:
    """The cameras of all splits of a scene as arrays, in the splits' coordinates."""

    scene: Scene

    @cached_property
    def names(self) -> list[str]:
        """Of all images."""
        return [name for split in self.scene.splits.values() for name in split.names]

    @cached_property
    def c2w(self) -> Array:
        """Poses ``[N, 4, 4]``."""
        return np.concatenate([split.c2w.double().numpy() for split in self.scene.splits.values()])

    @cached_property
    def cameras(self) -> list[Intrinsics]:
        """The camera of each."""
        return [split.camera(i) for split in self.scene.splits.values() for i in range(len(split))]

    @property
    def places(self) -> Array:
        """Positions ``[N, 3]``."""
        return self.c2w[:, :3, 3]

    @property
    def gazes(self) -> Array:
        """Where they look, unit vectors ``[N, 3]``."""
        return -self.c2w[:, :3, 2]

    @property
    def extent(self) -> float:
        """Diagonal of the box around all positions."""
        return float(np.linalg.norm(np.ptp(self.places, axis=0)))

    @property
    def box(self) -> Array:
        """The scene's box ``[2, 3]``."""
        return self.scene.aabb.double().numpy()

    @property
    def capture_scale(self) -> float:
        """Scene units in a capture unit."""
        return float(np.cbrt(np.linalg.det(self.scene.capture_to_scene[:3, :3].numpy())))

    @cached_property
    def capture_poses(self) -> Array:
        """Poses as the capture has them."""
        poses: Array = np.linalg.inv(self.scene.capture_to_scene.numpy()) @ self.c2w
        poses[:, :3, :3] *= self.capture_scale
        return poses

    def crossings(self) -> tuple[Array, Array]:
        """Where each optical axis enters the box and leaves it, distances ``[N]``; it misses where it leaves before it
        enters, or behind the camera."""
        with np.errstate(divide="ignore"):
            planes = (self.box[:, None] - self.places) / np.where(self.gazes == 0, 1e-12, self.gazes)
        return planes.min(0).max(-1), planes.max(0).min(-1)


def fields_of_view(camera: Intrinsics) -> tuple[float, float]:
    """Full angles in degrees, horizontal and vertical, of the camera without its distortion."""
    lengths = ((camera.width, camera.fl_x), (camera.height, camera.fl_y))
    return tuple(math.degrees(2 * math.atan(0.5 * size / focal)) for size, focal in lengths)  # type: ignore[return-value]


class Focus(NamedTuple):
    """How cameras look at the point that is nearest to all their axes.

    Attributes:
        share: part of them that have it in front.
        blur: median distance of the axes from it, in median distances of the cameras.
        distance: median distance of the cameras.
    """

    share: float
    blur: float
    distance: float


def focus(c2w: NDArray[np.floating]) -> Focus | None:
    """Find that point by least squares; None where the axes are parallel or the cameras stand in it."""
    places, gazes = c2w[:, :3, 3], -c2w[:, :3, 2]
    across = across_lines(gazes)
    if np.linalg.eigvalsh(across.mean(0))[0] < PARALLEL:
        return None
    point = point_nearest_to_lines(places, gazes)
    to = point - places
    distance = float(np.median(np.linalg.norm(to, axis=-1)))
    if distance < 1e-6 * (1.0 + np.abs(places).max()):
        return None
    blur = float(np.median(np.linalg.norm((across @ to[..., None])[..., 0], axis=-1))) / distance
    return Focus(float(((to * gazes).sum(-1) > 0).mean()), blur, distance)
