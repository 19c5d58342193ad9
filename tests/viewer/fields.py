"""A field that needs no training: a cube with the colour of the position on its surface."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from nerf_metal.models.pixels import RenderedPixels
from nerf_metal.reference import intersect_rays

CUBE = torch.tensor([[-0.5, -0.4, -0.6], [0.5, 0.4, 0.6]])


class CubeMethod:
    """The part of a method that a viewer needs. ``each`` is called with the number of rays of each call."""

    box = torch.tensor([[-1.5] * 3, [1.5] * 3])

    def __init__(self, each: Callable[[int], None] = lambda rays: None) -> None:
        self.each = each

    def render(self, rays_o: torch.Tensor, rays_d: torch.Tensor, background: torch.Tensor) -> RenderedPixels:
        self.each(len(rays_o))
        bounds = intersect_rays(rays_o, rays_d, CUBE)
        color = ((rays_o + bounds.t_min[:, None] * rays_d - CUBE[0]) / (CUBE[1] - CUBE[0])).clamp(0, 1)
        hits = bounds.hits
        return RenderedPixels(
            torch.where(hits[:, None], color, background.expand_as(color)), hits.float(), bounds.t_min * hits
        )


def seen(camera, width: int, height: int) -> torch.Tensor:
    """Render the expected picture of the cube over white, ``[height, width, 3]`` in [0, 1].

    It follows viser's conventions and uses none of nerf_metal's conversions.
    """
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    focal = 0.5 * height / math.tan(0.5 * camera.fov)
    local = torch.stack(((x - 0.5 * width) / focal, (y - 0.5 * height) / focal, torch.ones_like(x)), -1).view(-1, 3)
    w, *v = torch.as_tensor(camera.wxyz).float()
    axis = torch.stack(v).expand_as(local)
    turned = local + 2 * torch.linalg.cross(axis, torch.linalg.cross(axis, local) + w * local)
    eye = torch.as_tensor(camera.position).float().expand_as(turned)
    rays_d = turned / turned.norm(dim=-1, keepdim=True)
    return CubeMethod().render(eye, rays_d, torch.ones(3)).rgb.view(height, width, 3)
