"""What a picture is made of, whichever field it is of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch

from nerf_metal.ops import Composited

LEAST_OPACITY = 1e-3
"""Opacity below which a ray has met nothing: less than a level of an 8-bit picture."""


class RenderedPixels(NamedTuple):
    """Pixels without gradients: ``rgb [R, 3]`` in [0, 1], ``opacity [R]`` in [0, 1], and ``depth [R]``, the mean
    distance along the ray of what is seen, world units, 0 where nothing is."""

    rgb: torch.Tensor
    opacity: torch.Tensor
    depth: torch.Tensor

    @classmethod
    def of(cls, composited: Composited) -> RenderedPixels:
        """Pixels of composited rays, whose depths are sums over weights that may add up to less than 1."""
        opacity = composited.opacity.clamp(0.0, 1.0)
        depth = composited.depth / opacity.clamp(min=LEAST_OPACITY)
        return cls(composited.rgb.clamp(0.0, 1.0), opacity, depth * (opacity > LEAST_OPACITY))

    @classmethod
    def join(cls, parts: Iterable[RenderedPixels]) -> RenderedPixels:
        """Chunks of rays, one after the other."""
        return cls(*(torch.cat(columns) for columns in zip(*parts, strict=True)))


def inside_box(positions: torch.Tensor, box: torch.Tensor) -> torch.Tensor:
    """Which of ``positions [S, 3]`` are in a ``box [2, 3]``: bool ``[S]``."""
    return ((positions >= box[0]) & (positions <= box[1])).all(dim=-1)
