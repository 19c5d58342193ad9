"""The losses that training minimises."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it

from nerf_metal.models.coarse_fine.rendering import RenderedRays

HUBER_DELTA = 0.1
"""Error from which the loss is linear, as in instant-ngp's synthetic scenes. So a few pixels with a large error do not
dominate a step."""

PHOTOMETRIC: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "huber": lambda rgb, truth: F.huber_loss(rgb, truth, delta=HUBER_DELTA),
    "mse": F.mse_loss,
}
"""Functions for the loss of colours ``[R, 3]`` against the truth over the same background, by name."""


def photometric_loss(rendered: RenderedRays, truth: torch.Tensor) -> torch.Tensor:
    """Return the mean squared error of the fine picture plus that of the coarse one (Mildenhall et al. 2020, eq. 6).

    The paper sums over rays and channels. The mean makes the loss and its gradients independent of the batch size.

    Args:
        rendered: rendered colours of ``R`` rays.
        truth: true colours ``[R, 3]``, over the same background.
    """
    return F.mse_loss(rendered.fine.rgb, truth) + F.mse_loss(rendered.coarse.rgb, truth)
