"""Quality of one picture (MSE, PSNR, SSIM), and the score of the best blank picture."""

from __future__ import annotations

import torch
from skimage.metrics import structural_similarity

LEAST_MSE = 1e-10
"""Least mean squared error that PSNR distinguishes. A perfect picture has 100 dB rather than infinity: an 8-bit truth
is not more exact, and JSON has no infinity."""


def mse(prediction: torch.Tensor, truth: torch.Tensor) -> float:
    """Return the mean squared error of one picture ``[..., 3]`` in [0, 1], accumulated in float64."""
    return float((prediction.cpu().double() - truth.cpu().double()).square().mean())


def psnr(mean_squared_error: float) -> float:
    """Return the peak signal-to-noise ratio of one picture in dB: ``-10 log10(mse)`` for a peak of 1.

    The PSNR of several pictures is the mean of their PSNRs, not the PSNR of their mean error.
    """
    return -10.0 * float(torch.log10(torch.tensor(max(mean_squared_error, LEAST_MSE), dtype=torch.float64)))


def ssim(prediction: torch.Tensor, truth: torch.Tensor) -> float:
    """Return the structural similarity of one picture ``[H, W, 3]`` in [0, 1] (Wang et al. 2004).

    The window is scikit-image's, 7 x 7 pixels. A smaller picture is measured with the largest odd window that fits.
    """
    side = min(*prediction.shape[:2], 7)
    window = side if side % 2 else side - 1
    return float(
        structural_similarity(
            truth.cpu().numpy(), prediction.cpu().numpy(), data_range=1.0, channel_axis=-1, win_size=window
        )
    )


def blank_psnr(truth: torch.Tensor) -> float:
    """Return the PSNR of the best blank picture for one picture ``[H, W, 3]``: the mean colour everywhere, dB.

    The mean is the constant with the least squared error. A blank picture whose colour may differ from view to view is
    at least as good as the best one for all views, so this is the stricter comparison: 10.71 dB on Lego over white,
    where an all-white picture scores 9.48 dB.
    """
    flat = truth.reshape(-1, 3)
    return psnr(mse(flat.mean(dim=0).expand_as(flat), flat))
