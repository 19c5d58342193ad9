"""Frequency encoding of positions and directions."""

from __future__ import annotations

import math

import torch
from torch import nn


class FrequencyEncoding(nn.Module):
    """NeRF's positional encoding (Mildenhall et al. 2020, eq. 4), with the input itself in front.

    ``gamma(p) = (p, sin(2^0 pi p), ..., sin(2^(L-1) pi p), cos(2^0 pi p), ..., cos(2^(L-1) pi p))`` for each
    of the ``C`` coordinates. The factor pi is the paper's (the authors' code leaves it out), so coordinates
    belong in [-1, 1]: level 0 is then one period over the box. The input itself is the authors' code's (the
    paper leaves it out); it costs ``C`` columns and gives the network a plain ramp.

    Args:
        levels: ``L``, at least 0; 0 gives the input alone.
        channels: ``C``, coordinates of a point.
    """

    frequencies: torch.Tensor

    def __init__(self, levels: int, channels: int = 3) -> None:
        """Make the frequencies; they are no weights and not saved."""
        super().__init__()
        self.width = channels * (1 + 2 * levels)
        self.register_buffer("frequencies", math.pi * 2.0 ** torch.arange(levels), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Encode ``x [N, C]`` (in [-1, 1], any float dtype) to ``[N, width]``, level-major, coordinates
        within."""
        angle = (self.frequencies.to(x.dtype)[:, None] * x[:, None, :]).flatten(1)
        return torch.cat((x, angle.sin(), angle.cos()), dim=-1)
