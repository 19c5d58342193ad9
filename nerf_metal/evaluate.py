"""Measuring a model on views it has not seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from nerf_metal import metrics
from nerf_metal.background import background_color, composite_over, evaluation_background
from nerf_metal.cameras import image_rays
from nerf_metal.data.scene import Split
from nerf_metal.pixels import RenderedPixels


class ViewScore(NamedTuple):
    """One view: its name, its scores, and prediction and truth ``[H, W, 3]`` on the CPU."""

    name: str
    mse: float
    psnr: float
    ssim: float
    blank_psnr: float
    prediction: torch.Tensor
    truth: torch.Tensor


class Evaluation(NamedTuple):
    """Means over views of the per-view values, and the views."""

    mse: float
    psnr: float
    ssim: float
    blank_psnr: float
    views: list[ViewScore]

    def line(self) -> str:
        """The scores as a person reads them."""
        return f"PSNR {self.psnr:.2f} dB  SSIM {self.ssim:.3f}  (blank picture: {self.blank_psnr:.2f} dB)"


Render = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], RenderedPixels]
"""What rays ``rays_o, rays_d [R, 3]`` show over a ``background [3]``."""


def evaluate(
    render: Render,
    split: Split,
    views: list[int],
    *,
    background: str,
    device: torch.device,
    stop: Callable[[], bool] = lambda: False,
) -> Evaluation | None:
    """Render and measure views of a split.

    Args:
        render: the field's pictures.
        split: the truth.
        views: indices of images.
        background: the run's setting; random is measured over white.
        device: where the field is.
        stop: asked before each view; None is returned where it says so.
    """
    scores = []
    for index in views:
        if stop():
            return None
        rgba, camera = split.image(index).float() / 255.0, split.camera(index)
        color = background_color(evaluation_background(background), rgba)
        truth = composite_over(rgba, color)
        rays_o, rays_d = image_rays(split.c2w[index].to(device), camera)
        prediction = render(rays_o, rays_d, color.to(device)).rgb.view(camera.height, camera.width, 3).cpu()
        error = metrics.mse(prediction, truth)
        scores.append(
            ViewScore(
                split.names[index],
                error,
                metrics.psnr(error),
                metrics.ssim(prediction, truth),
                metrics.blank_psnr(truth),
                prediction,
                truth,
            )
        )

    def mean(name: str) -> float:
        return sum(getattr(score, name) for score in scores) / len(scores)

    return Evaluation(mean("mse"), mean("psnr"), mean("ssim"), mean("blank_psnr"), scores)
