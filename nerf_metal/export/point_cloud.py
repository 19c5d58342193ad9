"""A point cloud of what pictures show: the points where rays meet a surface, with the colours of the pictures.

Rays are better here than the surface of a mesh. Points are as fine as pixels, not as voxels, and there are no points
where no camera sees a surface, such as inside solids.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from nerf_metal.data.cameras import Intrinsics, Lenses, look_at, pixel_rays
from nerf_metal.export.mesh import Space, scale_of, transformed
from nerf_metal.util.errors import InputError
from nerf_metal.util.pictures import to_uint8

OPAQUE = 0.5
"""Least opacity of a ray that has met a surface. With less, most of its colour is that of the background."""
RAYS = 2**16
"""Number of rays drawn at once."""
BARREN = 5
"""Number of draws without a new point after which the search ends: a third of a million rays."""
NORMAL_STEPS = 256
"""Number of steps in the box, where a step is the distance of the differences that give a normal. It equals the voxel
of a mesh with the default resolution."""
GRAZING = -0.2
"""Cosine between a normal and the direction to the camera. A normal with a smaller one points to the wrong side and is
reversed."""
ORBIT = 64
"""Number of cameras all around the scene that replace those of the run: several of them see into a hollow."""


class PointCloud(NamedTuple):
    """A point cloud.

    Attributes:
        points: positions ``[N, 3]``.
        normals: unit normals ``[N, 3]`` on the side of the camera that saw the point.
        colors: sRGB bytes ``[N, 3]``.
    """

    points: NDArray[np.float64]
    normals: NDArray[np.float64]
    colors: NDArray[np.uint8]

    def transformed(self, similarity: torch.Tensor) -> PointCloud:
        """Map the point cloud to other coordinates by a similarity float64 ``[4, 4]``."""
        turn = (similarity[:3, :3] / scale_of(similarity)).numpy()
        points = transformed(similarity, torch.from_numpy(self.points)).numpy()
        return PointCloud(points, self.normals @ turn.T, self.colors)


class Cameras(NamedTuple):
    """The cameras that see the points.

    Attributes:
        c2w: poses ``[N, 4, 4]``.
        lenses: intrinsics of the ``N`` cameras.
        sizes: heights and widths of their pictures ``[N, 2]``, in pixels.
    """

    c2w: torch.Tensor
    lenses: Lenses
    sizes: torch.Tensor

    @classmethod
    def around(cls, box: torch.Tensor, near: float, far: float) -> Cameras:
        """Place cameras evenly on a sphere around a ``box [2, 3]`` (Gonzalez 2010), between near and far."""
        middle, reach = box.double().mean(0), 0.5 * float(torch.linalg.vector_norm(box[1] - box[0]))
        distance = max(near + reach, min(0.5 * (near + far), 3.0 * reach))
        i = torch.arange(ORBIT, dtype=torch.float64) + 0.5
        z, turn = 1.0 - 2.0 * i / ORBIT, math.pi * (1.0 + math.sqrt(5.0)) * i
        flat = (1.0 - z * z).sqrt()
        toward = torch.stack((flat * turn.cos(), flat * turn.sin(), z), -1)
        # the sphere around the box fills the picture
        camera = Intrinsics.from_fov_x(2.0 * math.asin(min(reach / distance, 0.99)), 512, 512)
        c2w = look_at(middle + distance * toward, middle, (0.0, 0.0, 1.0))
        return cls(c2w, Lenses.of([camera] * ORBIT), torch.tensor([[512, 512]] * ORBIT))

    def draw(self, count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw random rays through the pictures, and return their origins and directions ``[count, 3]``."""
        which = torch.randint(len(self.c2w), (count,), generator=generator)
        places = torch.rand(count, 2, generator=generator) * self.sizes[which].flip(-1) - 0.5
        return pixel_rays(self.c2w[which], self.lenses.at(which), places)


def field_points(space: Space, box: torch.Tensor, cameras: Cameras, *, count: int, threshold: float) -> PointCloud:
    """Draw random points on the surface of a model in a box. Every call draws the same points.

    Args:
        space: the trained model.
        box: the box, float64 ``[2, 3]``.
        cameras: the cameras, in the coordinates of the scene.
        count: number of points.
        threshold: density of a surface, see :func:`nerf_metal.export.mesh.surface_density`.

    Returns:
        The point cloud, in the coordinates of the box.

    Raises:
        InputError: too few rays meet a surface in the box.
    """
    generator = torch.Generator().manual_seed(0)
    to_box = torch.linalg.inv(space.to_scene)
    background = torch.zeros(3, device=space.device)
    found: list[tuple[torch.Tensor, ...]] = []
    have, barren = 0, 0
    bar = tqdm(total=count, desc="points", disable=None, leave=False)
    while have < count:
        if barren == BARREN:
            raise InputError(
                f"[export] --box must hold a surface that cameras see, got {have} of {count} points, none in the last "
                f"{BARREN * RAYS} rays; choose another --box or fewer --points"
            )
        rays_o, rays_d = cameras.draw(RAYS, generator)
        pixels = space.method.render(rays_o.to(space.device), rays_d.to(space.device), background)
        rgb, opacity, depth = (part.cpu() for part in pixels)
        points = transformed(to_box, rays_o + depth[:, None] * rays_d)
        keep = (opacity > OPAQUE) & ((points >= box[0]) & (points <= box[1])).all(-1)
        # The mean depth of a ray that grazes one object and meets another lies between them, in the air. In the
        # built-in scene, 2 % of all points are more than 1/60 of the box away from any solid; with this check, 0.4 %.
        keep &= space.density(points) > threshold
        colors = rgb[keep] / opacity[keep, None]  # without the black background
        found.append((points[keep], colors, rays_d[keep].double() @ to_box[:3, :3].T))
        new = int(keep.sum())
        have, barren = have + new, 0 if new else barren + 1
        bar.update(new)
    bar.close()
    points, colors, looking = (torch.cat(parts)[:count] for parts in zip(*found, strict=True))
    normals = _normals(space, points, looking, threshold, float((box[1] - box[0]).max()) / NORMAL_STEPS)
    return PointCloud(points.numpy(), normals.numpy(), to_uint8(colors))


def _normals(space: Space, points: torch.Tensor, looking: torch.Tensor, threshold: float, step: float) -> torch.Tensor:
    """Return unit normals ``[N, 3]`` against the gradient of the opacity, on the side of the camera.

    A visible surface faces the camera; at grazing angles, noise may turn the gradient. Where there is no gradient, the
    normal points to the camera.
    """
    back = -looking / torch.linalg.vector_norm(looking, dim=-1, keepdim=True)

    def opacity(places: torch.Tensor) -> torch.Tensor:
        return 1.0 - torch.exp2(-space.density(places).double() / threshold)

    shifts = step * torch.eye(3, dtype=torch.float64)
    fall = torch.stack([opacity(points - shift) - opacity(points + shift) for shift in shifts], -1)
    length = torch.linalg.vector_norm(fall, dim=-1, keepdim=True)
    normals = torch.where(length > 1e-6, fall / length.clamp(min=1e-6), back)
    return torch.where((normals * back).sum(-1, keepdim=True) < GRAZING, -normals, normals)
