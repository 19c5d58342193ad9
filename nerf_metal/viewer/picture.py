"""From rendered pixels to what a page shows."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from nerf_metal.models.pixels import RenderedPixels
from nerf_metal.util.pictures import to_uint8

Output = Literal["color", "depth", "opacity"]
FAR = 160.0
"""Depth of what is not there, world units: near the greatest that a page's 24 bits hold (167.8)."""
SOLID = 0.5
"""Opacity from which a pixel hides what stands behind it: more of it is seen than of the background."""


class Picture(NamedTuple):
    """``rgb`` uint8 ``[H, W, 3]``, and ``depth`` float32 ``[H, W]`` along the camera's axis, by which the page's own
    lines are hidden."""

    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]


def make_picture(
    pixels: RenderedPixels, along_axis: torch.Tensor, output: Output, height: int, width: int, box_depths: torch.Tensor
) -> Picture:
    """A whole picture.

    Args:
        pixels: row by row, on the CPU.
        along_axis: cosine of each ray's angle with the camera's axis, ``[R]``.
        output: what to show.
        height: of the picture.
        width: of the picture.
        box_depths: distances between which depths are coloured, ``[2]``: of the scene's box, so that colours do not
            jump from picture to picture.
    """
    shown = {"color": lambda: pixels.rgb, "opacity": lambda: _grey(pixels.opacity), "depth": lambda: None}[output]()
    if shown is None:
        near, far = box_depths.tolist()
        shown = _turbo((pixels.depth - near) / max(far - near, 1e-6)) * pixels.opacity[:, None]
    depth = torch.where(pixels.opacity >= SOLID, (pixels.depth * along_axis).clamp(max=FAR), FAR)
    return Picture(to_uint8(shown.view(height, width, 3)), depth.view(height, width).numpy())


def _grey(values: torch.Tensor) -> torch.Tensor:
    return values[:, None].expand(-1, 3)


def _turbo(values: torch.Tensor) -> torch.Tensor:
    """Near is warm, far is cold."""
    from matplotlib import colormaps  # half a second, for those who look at depths

    return torch.from_numpy(colormaps["turbo"](1.0 - values.clamp(0.0, 1.0).numpy())[:, :3]).float()
