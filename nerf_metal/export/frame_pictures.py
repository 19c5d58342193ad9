"""The pictures of one frame: colour, depth, opacity, normals."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nerf_metal.data.background import composite_over
from nerf_metal.data.cameras import Intrinsics, image_rays
from nerf_metal.data.scene import spread
from nerf_metal.data.toy.raytrace import fibonacci_sphere
from nerf_metal.export.camera_paths import CameraPath
from nerf_metal.models import Model
from nerf_metal.models.pixels import LEAST_OPACITY
from nerf_metal.train.run_folder import to_uint8

OUTPUTS = {
    "rgb": ("",),
    "depth": ("depth", "depth_colors"),
    "opacity": ("opacity",),
    "normals": ("normals",),
}
"""What can be asked for, and the folders of its pictures inside the film's; the last one's become a video."""
COLOR_MAP = "turbo"
SOLID = 0.5  # opacity from which a pixel has a depth: below, most of what is seen is behind it
LARGEST = 65535  # of 16 bits
PROBE_FRAMES, PROBE_PIXELS = 8, 48  # frames and their longer side that show a film's depths, in well under a second
PROBE_PERCENT = (2.0, 98.0)  # of the depths seen: stray ones do not stretch the colours
# Of normals. On the package's scene after 40 s they are 20 degrees off in the median; central differences at the
# surface with a step of a pixel are 37. Where a surface is sharp, 48 directions alone are 4 degrees off, 32 are 5.
NORMAL_DIRECTIONS = 48
NORMAL_RADIUS = 0.009  # of the depth: half a degree of what is seen, whatever the size of scene and picture
NORMAL_SHIFT = 0.5  # radii towards the camera: opacity is known at the front of a surface, and arbitrary behind it
NORMAL_LENGTH = 4.0  # radii over which density becomes opacity: what hides everything behind it counts as one
POINTS_AT_ONCE = 65536  # as a training step has samples


class DepthScale(NamedTuple):
    """How a film's depths are written, the same for all frames.

    Attributes:
        unit: scene units of 1 in a 16-bit picture.
        near: depth of the colour map's warm end, scene units.
        far: of its cold end.
    """

    unit: float
    near: float
    far: float


def depth_scale(model: Model, path: CameraPath, device: torch.device) -> DepthScale:
    """A unit with which the box's farthest corner still fits, and the range of depths that some small frames show."""
    box = model.box.cpu().double()
    corners = torch.cartesian_prod(*box.T)
    eyes = torch.stack([c2w[:3, 3] for c2w, _ in path]).double()
    greatest = float(torch.cdist(eyes, corners).max())
    shown = [path[index] for index in spread(len(path), PROBE_FRAMES)]
    depths = torch.cat([visible_depths(model, c2w, camera, device) for c2w, camera in shown]).numpy()
    near, far = np.percentile(depths, PROBE_PERCENT).tolist() if len(depths) else (0.0, greatest)
    return DepthScale(greatest / LARGEST, near, max(far, near + greatest / LARGEST))


def visible_depths(model: Model, c2w: Tensor, camera: Intrinsics, device: torch.device) -> Tensor:
    """Depths ``[D]`` of the opaque pixels of a small picture, on the CPU."""
    small = camera.scaled(min(1.0, PROBE_PIXELS / max(camera.width, camera.height)))
    rays_o, rays_d = image_rays(c2w.to(device), small)
    pixels = model.render(rays_o, rays_d, torch.zeros(3, device=device))
    return pixels.depth[pixels.opacity >= SOLID].cpu()


def frame_pictures(
    model: Model,
    c2w: Tensor,
    camera: Intrinsics,
    outputs: tuple[str, ...],
    background: Tensor,
    depths: DepthScale | None,
) -> dict[str, NDArray[np.uint8] | NDArray[np.uint16]]:
    """Render a frame.

    Args:
        method: on the device of `background`.
        c2w: the pose ``[4, 4]``.
        camera: of the frame.
        outputs: keys of `OUTPUTS`.
        background: colour ``[3]`` behind colours, colour-mapped depths and normals.
        depths: needed for depth.

    Returns:
        By folder (see `OUTPUTS`): ``[H, W, 3]`` uint8; opacity ``[H, W]`` uint8; depth ``[H, W]`` uint16, the distance
        along the ray in units of `depths`, 0 where opacity is below `SOLID`. Normals are in scene coordinates, -1 to 1
        as 0 to 255.
    """
    shape = (camera.height, camera.width)
    rays_o, rays_d = image_rays(c2w.to(background.device), camera)
    pixels = model.render(rays_o, rays_d, background)
    pictures: dict[str, NDArray[np.uint8] | NDArray[np.uint16]] = {}

    def over_background(colors: Tensor) -> NDArray[np.uint8]:
        rgba = torch.cat((colors, pixels.opacity[:, None]), dim=-1)
        picture: NDArray[np.uint8] = to_uint8(composite_over(rgba, background).view(*shape, 3))
        return picture

    if "rgb" in outputs:
        pictures[""] = to_uint8(pixels.rgb.view(*shape, 3))
    if "depth" in outputs:
        assert depths is not None
        steps = (pixels.depth / depths.unit).round().clamp(1, LARGEST) * (pixels.opacity >= SOLID)
        pictures["depth"] = steps.view(shape).cpu().numpy().astype(np.uint16)
        colors = torch.from_numpy(_color_map(pixels.depth.cpu().numpy(), depths))
        pictures["depth_colors"] = over_background(colors.to(background))
    if "opacity" in outputs:
        pictures["opacity"] = to_uint8(pixels.opacity.view(shape))
    if "normals" in outputs:
        normals = torch.zeros_like(rays_d)
        met = pixels.opacity > LEAST_OPACITY
        normals[met] = surface_normals(model, rays_o[met], rays_d[met], pixels.depth[met])
        pictures["normals"] = over_background(0.5 + 0.5 * normals)
    return pictures


def surface_normals(model: Model, rays_o: Tensor, rays_d: Tensor, depth: Tensor) -> Tensor:
    """Unit normals ``[R, 3]``, outwards, where rays ``[R, 3]`` meet a surface at ``depth [R]``: the negative gradient
    of opacity, averaged over a ball, since that of the density at a point is noise. By Gauss's theorem the average is a
    sum over directions to the ball's surface: differences across it in all directions. Zero where nothing changes."""
    directions = torch.from_numpy(fibonacci_sphere(NORMAL_DIRECTIONS)).to(rays_o)
    normals = []
    for o, d, t in zip(*(x.split(POINTS_AT_ONCE // NORMAL_DIRECTIONS) for x in (rays_o, rays_d, depth)), strict=True):
        radius = NORMAL_RADIUS * t[:, None]
        centre = o + (t[:, None] - NORMAL_SHIFT * radius) * d
        around = centre[:, None] + radius[..., None] * directions
        sigmas = model.density(around.view(-1, 3)).view(len(o), -1)
        opacity = -torch.expm1(-NORMAL_LENGTH * radius * sigmas)
        normals.append(torch.nn.functional.normalize(-(opacity[..., None] * directions).sum(1), dim=-1))
    return torch.cat(normals) if normals else rays_d


def _color_map(depth: NDArray[np.float32], depths: DepthScale) -> NDArray[np.float32]:
    """Near is warm, far is cold: float ``[R, 3]``."""
    import matplotlib  # half a second that colour alone need not wait for

    part = 1.0 - (depth - depths.near) / (depths.far - depths.near)
    colors: NDArray[np.float32] = matplotlib.colormaps[COLOR_MAP](np.clip(part, 0.0, 1.0))[:, :3].astype(np.float32)
    return colors
