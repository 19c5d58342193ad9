"""The rendered pixels that every model returns."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch

from nerf_metal.ops import Composited

LEAST_OPACITY = 1e-3
"""Opacity below which a ray counts as empty: less than one step of an 8-bit picture."""


class RenderedPixels(NamedTuple):
    """Rendered pixels of ``R`` rays, without gradients.

    Attributes:
        rgb: colours ``[R, 3]`` in [0, 1].
        opacity: opacities ``[R]`` in [0, 1].
        depth: mean distances ``[R]`` along the rays to the visible surfaces, world units; 0 for empty rays.
    """

    rgb: torch.Tensor
    opacity: torch.Tensor
    depth: torch.Tensor

    @classmethod
    def of(cls, composited: Composited) -> RenderedPixels:
        """Make pixels from composited rays.

        The depths of composited rays are weighted sums, and the weights may add up to less than 1. So the depths are
        divided by the opacities.
        """
        opacity = composited.opacity.clamp(0.0, 1.0)
        depth = composited.depth / opacity.clamp(min=LEAST_OPACITY)
        return cls(composited.rgb.clamp(0.0, 1.0), opacity, depth * (opacity > LEAST_OPACITY))

    @classmethod
    def join(cls, parts: Iterable[RenderedPixels]) -> RenderedPixels:
        """Join the pixels of chunks of rays, in their order."""
        return cls(*(torch.cat(columns) for columns in zip(*parts, strict=True)))


def inside_box(positions: torch.Tensor, box: torch.Tensor) -> torch.Tensor:
    """Return which of ``positions [S, 3]`` are inside ``box [2, 3]``, bool ``[S]``."""
    return ((positions >= box[0]) & (positions <= box[1])).all(dim=-1)
