"""How good a picture is, per picture, and what a blank page would score."""

from __future__ import annotations

import torch
from skimage.metrics import structural_similarity

LEAST_MSE = 1e-10
"""PSNR of a perfect picture is 100 dB rather than infinite: an 8-bit truth cannot tell more, and JSON has
no infinity."""


def mse(prediction: torch.Tensor, truth: torch.Tensor) -> float:
    """Mean squared error of one picture, ``[..., 3]`` in [0, 1], accumulated in float64."""
    return float((prediction.cpu().double() - truth.cpu().double()).square().mean())


def psnr(mean_squared_error: float) -> float:
    """Peak signal-to-noise ratio of one picture in dB: ``-10 log10(mse)`` for a peak of 1.

    A mean over pictures is the mean of their PSNRs, never the PSNR of their mean error.
    """
    return -10.0 * float(torch.log10(torch.tensor(max(mean_squared_error, LEAST_MSE), dtype=torch.float64)))


def ssim(prediction: torch.Tensor, truth: torch.Tensor) -> float:
    """Structural similarity of one picture (Wang et al. 2004), ``[H, W, 3]`` in [0, 1], scikit-image's 7x7
    window.

    A picture smaller than the window is measured with the greatest odd window that fits.
    """
    side = min(*prediction.shape[:2], 7)
    window = side if side % 2 else side - 1
    return float(
        structural_similarity(
            truth.cpu().numpy(), prediction.cpu().numpy(), data_range=1.0, channel_axis=-1, win_size=window
        )
    )


def blank_psnr(truth: torch.Tensor) -> float:
    """PSNR of the best blank page for one picture ``[H, W, 3]``: one colour everywhere, the picture's own
    mean.

    The mean is the constant with the least squared error. A blank page that may change its colour from view
    to view is at least as good as the best one for all views, so this is the stronger opponent: 10.71 dB on
    Lego over white, where all-white scores 9.48.
    """
    flat = truth.reshape(-1, 3)
    return psnr(mse(flat.mean(dim=0).expand_as(flat), flat))
