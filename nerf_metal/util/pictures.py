"""Colours as the bytes of a picture file."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


def to_uint8(colors: torch.Tensor | NDArray[Any]) -> NDArray[np.uint8]:
    """Convert values of any shape from [0, 1] to bytes, rounded to the nearest; values outside are clamped.

    NaN, which a failed run may render, becomes any byte.
    """
    values = colors.detach().cpu().numpy() if isinstance(colors, torch.Tensor) else colors
    with np.errstate(invalid="ignore"):
        whole: NDArray[np.uint8] = (values.clip(0.0, 1.0) * 255.0).round().astype(np.uint8)
    return whole
