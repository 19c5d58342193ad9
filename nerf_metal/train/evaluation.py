"""Measuring a model on views it has not seen."""

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
"""Views in a quick render: enough to see all sides, few enough to see at a glance."""


@dataclass(eq=False)
class ViewScore:
    """One view: its name and its scores; ``pictures`` are prediction and truth ``[H, W, 3]`` on the CPU where they are
    kept, ``lpips`` is None where nobody asked for it."""

    name: str
    mse: float
    psnr: float
    ssim: float
    blank_psnr: float
    lpips: float | None
    pictures: tuple[torch.Tensor, torch.Tensor] | None

    @property
    def prediction(self) -> torch.Tensor:
        """The rendered picture."""
        assert self.pictures is not None, f"the pictures of {self.name} were not kept"
        return self.pictures[0]

    @property
    def truth(self) -> torch.Tensor:
        """The photograph."""
        assert self.pictures is not None, f"the pictures of {self.name} were not kept"
        return self.pictures[1]


class Evaluation(NamedTuple):
    """Means over views of the per-view values, and the views."""

    mse: float
    psnr: float
    ssim: float
    blank_psnr: float
    lpips: float | None
    views: list[ViewScore]

    def line(self) -> str:
        """The scores as a person reads them."""
        lpips = "" if self.lpips is None else f"  LPIPS {self.lpips:.3f}"
        return f"PSNR {self.psnr:.2f} dB  SSIM {self.ssim:.3f}{lpips}  (blank picture: {self.blank_psnr:.2f} dB)"


Render = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], RenderedPixels]
"""What rays ``rays_o, rays_d [R, 3]`` show over a ``background [3]``."""
Keep = Callable[[list[ViewScore]], list[ViewScore]]
"""Of the views measured so far, those to show: the pictures of the others are dropped, 15 MB a view of 800 x 800."""


def first(views: list[ViewScore]) -> list[ViewScore]:
    """The views of a quick render."""
    return views[:PICTURE_VIEWS]


def best_and_worst(views: list[ViewScore]) -> list[ViewScore]:
    """The two views with the greatest PSNR, the best first, then the two with the least, the worst last."""
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
    """Render and measure views of a split.

    Args:
        render: the field's pictures.
        split: the truth.
        views: indices of images, at least one.
        background: the run's setting; random is measured over white.
        device: where the field is.
        stop: asked before each view; None is returned where it says so.
        keep: whose pictures are kept.
        lpips: a further measure of prediction and truth, see :mod:`nerf_metal.train.perceptual`.
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
