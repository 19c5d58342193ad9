"""The pictures of one frame: colour, depth, opacity and normals."""

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
from nerf_metal.util.pictures import to_uint8

COLOR_MAP = "turbo"
SOLID = 0.5  # least opacity of a pixel with a depth: with less, most of its colour comes from behind
LARGEST = 65535  # number of 16 bits
PROBE_FRAMES, PROBE_PIXELS = 8, 48  # number and longer side of the frames that give a film's range of depths
PROBE_PERCENT = (2.0, 98.0)  # percentiles of these depths: outliers do not stretch the colours
# After 40 s of training on the built-in scene, normals have a median error of 20 degrees; central differences at the
# surface with a step of one pixel have 37. At a sharp surface, 48 directions have an error of 4 degrees, 32 have 5.
NORMAL_DIRECTIONS = 48
NORMAL_RADIUS = 0.009  # radius of the ball over the depth: half a degree of view, for scenes and pictures of any size
NORMAL_SHIFT = 0.5  # radii that the ball moves to the camera: behind its front, the opacity of a surface is arbitrary
NORMAL_LENGTH = 4.0  # radii over which density becomes opacity: what hides everything behind it gets 1
POINTS_AT_ONCE = 65536  # as many as a training step has samples


class DepthScale(NamedTuple):
    """The scale of depths in the pictures of a film, the same for all frames.

    Attributes:
        unit: scene units of the value 1 in a 16-bit picture.
        near: depth of the warm end of the colour map, in scene units.
        far: depth of the cold end of the colour map, in scene units.
    """

    unit: float
    near: float
    far: float


def depth_scale(model: Model, path: CameraPath, device: torch.device) -> DepthScale:
    """Choose a unit with which the farthest corner of the box fits into 16 bits, and the range of depths that some
    small frames show."""
    box = model.box.cpu().double()
    corners = torch.cartesian_prod(*box.T)
    eyes = torch.stack([c2w[:3, 3] for c2w, _ in path]).double()
    greatest = float(torch.cdist(eyes, corners).max())
    shown = [path[index] for index in spread(len(path), PROBE_FRAMES)]
    depths = torch.cat([visible_depths(model, c2w, camera, device) for c2w, camera in shown]).numpy()
    near, far = np.percentile(depths, PROBE_PERCENT).tolist() if len(depths) else (0.0, greatest)
    return DepthScale(greatest / LARGEST, near, max(far, near + greatest / LARGEST))


def visible_depths(model: Model, c2w: Tensor, camera: Intrinsics, device: torch.device) -> Tensor:
    """Return the depths ``[D]`` of the opaque pixels of a small picture, on the CPU, in scene units."""
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
        method: the trained model, on the device of `background`.
        c2w: the pose ``[4, 4]``.
        camera: the camera of the frame.
        outputs: keys of `OUTPUTS`.
        background: colour ``[3]`` behind colours, colour-mapped depths and normals.
        depths: the scale of depths; needed for the output ``depth``.

    Returns:
        The pictures by folder (see `OUTPUTS`). Colours, colour-mapped depths and normals are uint8 ``[H, W, 3]``, and
        opacity is uint8 ``[H, W]``. Depth is uint16 ``[H, W]``: the distance along the ray in units of `depths`, 0
        where the opacity is below `SOLID`. Normals are in scene coordinates, where -1 to 1 becomes 0 to 255.
    """
    shape = (camera.height, camera.width)
    rays_o, rays_d = image_rays(c2w.to(background.device), camera)
    pixels = model.render(rays_o, rays_d, background)
    pictures: dict[str, NDArray[np.uint8] | NDArray[np.uint16]] = {}

    def over_background(colors: Tensor) -> NDArray[np.uint8]:
        rgba = torch.cat((colors, pixels.opacity[:, None]), dim=-1)
        return to_uint8(composite_over(rgba, background).view(*shape, 3))

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
    """Return the outward unit normals ``[R, 3]`` where rays ``[R, 3]`` meet a surface at ``depth [R]``.

    A normal is the negative gradient of the opacity, averaged over a ball, since the gradient at a single point is
    noise. By Gauss's theorem this average is a sum over directions to the surface of the ball. The normal is zero where
    the opacity does not change.
    """
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
    """Map depths to colours ``[R, 3]``: near is warm, far is cold."""
    import matplotlib  # takes half a second, which the other outputs do not need

    part = 1.0 - (depth - depths.near) / (depths.far - depths.near)
    colors: NDArray[np.float32] = matplotlib.colormaps[COLOR_MAP](np.clip(part, 0.0, 1.0))[:, :3].astype(np.float32)
    return colors
