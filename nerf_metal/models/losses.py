"""What training minimises."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it

from nerf_metal.models.coarse_fine.rendering import RenderedRays

HUBER_DELTA = 0.1
"""Error from which it counts linearly: single pixels that no field can explain yet do not rule a step (as in
instant-ngp's synthetic scenes)."""

PHOTOMETRIC: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "huber": lambda rgb, truth: F.huber_loss(rgb, truth, delta=HUBER_DELTA),
    "mse": F.mse_loss,
}
"""Losses of one picture's colours ``[R, 3]`` against the truth over the same background, by name."""


def photometric_loss(rendered: RenderedRays, truth: torch.Tensor) -> torch.Tensor:
    """Mean squared error of the fine picture plus that of the coarse one (Mildenhall et al. 2020, eq. 6).

    The paper sums over rays and channels; the mean keeps the loss, and with it the gradients, independent of
    the batch size.

    Args:
        rendered: colours of ``R`` rays.
        truth: ``[R, 3]``, over the same background.
    """
    return F.mse_loss(rendered.fine.rgb, truth) + F.mse_loss(rendered.coarse.rgb, truth)
