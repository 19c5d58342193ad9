"""A point cloud of what pictures show: where rays of cameras meet a surface, with the pictures' colours.

Rays rather than the mesh's surface: a point is as fine as a pixel, not as a voxel, and nothing that no camera sees, the
inside of things above all, has points.
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

OPAQUE = 0.5
"""Opacity from which a ray has met something: for less, most of its colour is the background's."""
RAYS = 2**16
"""Rays drawn at once."""
BARREN = 5
"""Draws in a row without a point after which there is none: a third of a million rays."""
NORMAL_STEPS = 256
"""Parts of the scene's box over which a normal's differences are taken: the fineness of a mesh of the usual
resolution."""
GRAZING = -0.2
"""Cosine between a normal and the way back to the camera from which on the normal is taken for the other side's."""
ORBIT = 64
"""Cameras all around, where those of the run cannot be had: hollows are seen from several of them."""


class PointCloud(NamedTuple):
    """Points ``[N, 3]``, unit normals towards who saw them ``[N, 3]``, sRGB bytes ``[N, 3]``."""

    points: NDArray[np.float64]
    normals: NDArray[np.float64]
    colors: NDArray[np.uint8]

    def transformed(self, similarity: torch.Tensor) -> PointCloud:
        """The cloud in other coordinates, by a similarity float64 ``[4, 4]``."""
        turn = (similarity[:3, :3] / scale_of(similarity)).numpy()
        points = transformed(similarity, torch.from_numpy(self.points)).numpy()
        return PointCloud(points, self.normals @ turn.T, self.colors)


class Cameras(NamedTuple):
    """Poses ``[N, 4, 4]``, their lenses ``[N]``, and their pictures' heights and widths ``[N, 2]``."""

    c2w: torch.Tensor
    lenses: Lenses
    sizes: torch.Tensor

    @classmethod
    def around(cls, box: torch.Tensor, near: float, far: float) -> Cameras:
        """On a sphere around a ``box [2, 3]``, evenly spread (Gonzalez 2010), as far as a field has been seen from."""
        middle, reach = box.double().mean(0), 0.5 * float(torch.linalg.vector_norm(box[1] - box[0]))
        distance = max(near + reach, min(0.5 * (near + far), 3.0 * reach))
        i = torch.arange(ORBIT, dtype=torch.float64) + 0.5
        z, turn = 1.0 - 2.0 * i / ORBIT, math.pi * (1.0 + math.sqrt(5.0)) * i
        flat = (1.0 - z * z).sqrt()
        toward = torch.stack((flat * turn.cos(), flat * turn.sin(), z), -1)
        # the box's sphere fills the picture
        camera = Intrinsics.from_fov_x(2.0 * math.asin(min(reach / distance, 0.99)), 512, 512)
        c2w = look_at(middle + distance * toward, middle, (0.0, 0.0, 1.0))
        return cls(c2w, Lenses.of([camera] * ORBIT), torch.tensor([[512, 512]] * ORBIT))

    def draw(self, count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Rays ``[count, 3]`` through any places of any pictures."""
        which = torch.randint(len(self.c2w), (count,), generator=generator)
        places = torch.rand(count, 2, generator=generator) * self.sizes[which].flip(-1) - 0.5
        return pixel_rays(self.c2w[which], self.lenses.at(which), places)


def field_points(space: Space, box: torch.Tensor, cameras: Cameras, *, count: int, threshold: float) -> PointCloud:
    """So many points of a field in a box, at random: the same in every call.

    Args:
        space: the field.
        box: ``[2, 3]`` float64.
        cameras: in the scene's coordinates.
        count: of points.
        threshold: density of a surface, see :func:`nerf_metal.export.mesh.surface_density`.

    Returns:
        The points in the coordinates of the box.

    Raises:
        InputError: too few rays meet anything in the box.
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
        pixels = space.model.render(rays_o.to(space.device), rays_d.to(space.device), background)
        rgb, opacity, depth = (part.cpu() for part in pixels)
        points = transformed(to_box, rays_o + depth[:, None] * rays_d)
        keep = (opacity > OPAQUE) & ((points >= box[0]) & (points <= box[1])).all(-1)
        # The mean depth of a ray that grazes one thing and meets another lies between them, in the air. On the
        # package's scene 2 % of all points are more than a sixtieth of the box from any solid, of these 0.4 %.
        keep &= space.density(points) > threshold
        colors = rgb[keep] / opacity[keep, None]  # without the black behind it
        found.append((points[keep], colors, rays_d[keep].double() @ to_box[:3, :3].T))
        new = int(keep.sum())
        have, barren = have + new, 0 if new else barren + 1
        bar.update(new)
    bar.close()
    points, colors, looking = (torch.cat(parts)[:count] for parts in zip(*found, strict=True))
    normals = _normals(space, points, looking, threshold, float((box[1] - box[0]).max()) / NORMAL_STEPS)
    return PointCloud(points.numpy(), normals.numpy(), (colors.clamp(0, 1) * 255.0).round().to(torch.uint8).numpy())


def _normals(space: Space, points: torch.Tensor, looking: torch.Tensor, threshold: float, step: float) -> torch.Tensor:
    """Against the slope of the opacities ``[N, 3]``, but towards who looked: a surface that is seen faces the camera,
    save for noise where it is seen at a grazing angle. Against the look where there is no slope."""
    back = -looking / torch.linalg.vector_norm(looking, dim=-1, keepdim=True)

    def opacity(places: torch.Tensor) -> torch.Tensor:
        return 1.0 - torch.exp2(-space.density(places).double() / threshold)

    shifts = step * torch.eye(3, dtype=torch.float64)
    fall = torch.stack([opacity(points - shift) - opacity(points + shift) for shift in shifts], -1)
    length = torch.linalg.vector_norm(fall, dim=-1, keepdim=True)
    normals = torch.where(length > 1e-6, fall / length.clamp(min=1e-6), back)
    return torch.where((normals * back).sum(-1, keepdim=True) < GRAZING, -normals, normals)
