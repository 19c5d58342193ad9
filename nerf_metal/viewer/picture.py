"""Conversion of rendered pixels into a picture for the page."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from nerf_metal.models.pixels import RenderedPixels
from nerf_metal.util.pictures import to_uint8

Output = Literal["color", "depth", "opacity"]
FAR = 160.0
"""The depth of an empty pixel, world units: near the greatest depth that a page's 24 bits hold (167.8)."""
SOLID = 0.5
"""The opacity from which a pixel hides the lines behind it: more of it is seen than of the background."""


class Picture(NamedTuple):
    """A picture for the page.

    Attributes:
        rgb: uint8 ``[H, W, 3]``.
        depth: float32 ``[H, W]``, along the camera's axis, world units. The page hides its own lines by it.
    """

    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]


def make_picture(
    pixels: RenderedPixels, along_axis: torch.Tensor, output: Output, height: int, width: int, box_depths: torch.Tensor
) -> Picture:
    """Make a picture from rendered pixels.

    Args:
        pixels: the rendered pixels row by row, on the CPU.
        along_axis: the cosine of each ray's angle with the camera's axis, ``[R]``.
        output: what the picture shows.
        height: height of the picture, pixels.
        width: width of the picture, pixels.
        box_depths: the range of the depth colours, ``[2]``. It is the distance of the scene's box, so that the colours
            do not change from picture to picture.
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
    """Map values in [0, 1] to colours ``[R, 3]``: near is warm, far is cold."""
    from matplotlib import colormaps  # the import takes half a second, and only depths need it

    return torch.from_numpy(colormaps["turbo"](1.0 - values.clamp(0.0, 1.0).numpy())[:, :3]).float()
