"""What training minimises."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it

from nerf_metal.render import RenderedRays


def photometric_loss(rendered: RenderedRays, truth: torch.Tensor) -> torch.Tensor:
    """Mean squared error of the fine picture plus that of the coarse one (Mildenhall et al. 2020, eq. 6).

    The paper sums over rays and channels; the mean keeps the loss, and with it the gradients, independent of
    the batch size.

    Args:
        rendered: colours of ``R`` rays.
        truth: ``[R, 3]``, over the same background.
    """
    return F.mse_loss(rendered.fine.rgb, truth) + F.mse_loss(rendered.coarse.rgb, truth)
