"""Evaluation of a model on held-out views."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch

from nerf_metal.data.background import background_color, composite_over, evaluation_background
from nerf_metal.data.cameras import image_rays
from nerf_metal.data.scene import Split
from nerf_metal.models.pixels import RenderedPixels
from nerf_metal.train import metrics

PICTURE_VIEWS = 3
"""Number of views in a quick render: enough to show several sides, and few enough for a small picture."""


@dataclass(eq=False)
class ViewScore:
    """The scores of one view.

    Attributes:
        name: name of the view.
        mse: mean squared error.
        psnr: PSNR, dB.
        ssim: structural similarity.
        blank_psnr: PSNR of the best blank picture for this view, dB.
        lpips: perceptual distance; None if it was not asked for.
        pictures: prediction and truth, float32 ``[H, W, 3]`` in [0, 1], on the CPU; None if they were not kept.
    """

    name: str
    mse: float
    psnr: float
    ssim: float
    blank_psnr: float
    lpips: float | None
    pictures: tuple[torch.Tensor, torch.Tensor] | None

    @property
    def prediction(self) -> torch.Tensor:
        """The rendered picture ``[H, W, 3]``. It must have been kept."""
        assert self.pictures is not None, f"the pictures of {self.name} were not kept"
        return self.pictures[0]

    @property
    def truth(self) -> torch.Tensor:
        """The true picture ``[H, W, 3]``, over the background of the evaluation. It must have been kept."""
        assert self.pictures is not None, f"the pictures of {self.name} were not kept"
        return self.pictures[1]


class Evaluation(NamedTuple):
    """The scores of several views and their means.

    Attributes:
        mse: mean of the mean squared errors.
        psnr: mean of the PSNRs, dB.
        ssim: mean of the structural similarities.
        blank_psnr: mean of the PSNRs of the best blank pictures, dB.
        lpips: mean of the perceptual distances; None if they were not asked for.
        views: scores of each view.
    """

    mse: float
    psnr: float
    ssim: float
    blank_psnr: float
    lpips: float | None
    views: list[ViewScore]

    def line(self) -> str:
        """Return the mean scores as one line of text."""
        lpips = "" if self.lpips is None else f"  LPIPS {self.lpips:.3f}"
        return f"PSNR {self.psnr:.2f} dB  SSIM {self.ssim:.3f}{lpips}  (blank picture: {self.blank_psnr:.2f} dB)"


Render = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], RenderedPixels]
"""Function that renders rays ``rays_o, rays_d [R, 3]`` over a ``background [3]``."""
Keep = Callable[[list[ViewScore]], list[ViewScore]]
"""Function that selects, from the views measured so far, those whose pictures are kept. The pictures of the others are
freed: they take 15 MB for a view of 800 x 800 pixels."""


def first(views: list[ViewScore]) -> list[ViewScore]:
    """Return the first :data:`PICTURE_VIEWS` views: those of a quick render."""
    return views[:PICTURE_VIEWS]


def best_and_worst(views: list[ViewScore]) -> list[ViewScore]:
    """Return the two views with the highest PSNR and the two with the lowest, sorted from the best to the worst."""
    ranked = sorted(views, key=lambda view: -view.psnr)
    return ranked[:2] + ranked[2:][-2:]


def evaluate(
    render: Render,
    split: Split,
    views: Iterable[int],
    *,
    background: str,
    device: torch.device,
    stop: Callable[[], bool] = lambda: False,
    keep: Keep = first,
    lpips: Callable[[torch.Tensor, torch.Tensor], float] | None = None,
) -> Evaluation | None:
    """Render views of a split and measure their quality.

    Args:
        render: function that renders rays, such as :meth:`nerf_metal.models.Model.render`.
        split: split with the true images and their cameras.
        views: indices of the views to evaluate, at least one.
        background: ``--background`` of the run. Views of a run with random backgrounds are measured over white.
        device: device of the model.
        stop: function that is called before each view. The evaluation ends if it returns True.
        keep: function that selects the views whose pictures are kept.
        lpips: function that returns the perceptual distance of prediction and truth, see
            :mod:`nerf_metal.train.perceptual`.

    Returns:
        The scores, or None if ``stop`` ended the evaluation.
    """
    scores: list[ViewScore] = []
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
                lpips(prediction, truth) if lpips else None,
                (prediction, truth),
            )
        )
        shown = keep(scores)
        for score in scores:
            if score not in shown:
                score.pictures = None

    def mean(name: str) -> float:
        return sum(getattr(score, name) for score in scores) / len(scores)

    measured = mean("lpips") if lpips else None
    return Evaluation(mean("mse"), mean("psnr"), mean("ssim"), mean("blank_psnr"), measured, scores)
