"""Adds up what training steps say, on the device, until a line of the record is read."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it

from nerf_metal.data.batches import RayBatch
from nerf_metal.models import StepLoss
from nerf_metal.train.lines import TrainLine

EMPTY_OPACITY, OPAQUE_OPACITY = 0.01, 0.99
"""Opacity of a ray below which nothing shows, above which nothing shines through: three steps of an 8-bit picture."""


@torch.no_grad()
def batch_means(parts: Sequence[tuple[StepLoss, float]], batch: RayBatch) -> torch.Tensor:
    """Return what a batch says of the run: loss, mse, blank_mse, empty_rays, opaque_rays, alpha; float32 ``[6]``.

    Args:
        parts: the losses of the parts of the batch, in order, and each part's share of the rays.
        batch: the whole batch.
    """
    if len(parts) == 1:
        out = parts[0][0]
        loss, error, opacity = out.loss.detach(), F.mse_loss(out.rgb, batch.truth), out.opacity
    else:
        truths = batch.truth.split([len(out.rgb) for out, _ in parts])
        losses = [out.loss.detach() * share for out, share in parts]
        errors = [F.mse_loss(out.rgb, truth) * share for (out, share), truth in zip(parts, truths, strict=True)]
        loss, error = functools.reduce(torch.add, losses), functools.reduce(torch.add, errors)
        opacity = torch.cat([out.opacity for out, _ in parts])
    return torch.stack(
        (
            loss,
            error,
            blank_mse(batch.truth, batch.background),
            (opacity < EMPTY_OPACITY).float().mean(),
            (opacity > OPAQUE_OPACITY).float().mean(),
            batch.alpha.mean(),
        )
    )


def blank_mse(truth: torch.Tensor, background: torch.Tensor) -> torch.Tensor:
    """Return the mean squared error of the best picture without content: one colour and one opacity for all rays.

    Such a picture shows ``a + b * background``, and the least squares over ``a`` (a number for each channel) and ``b``
    leave ``ss(truth) - sp(truth, background)^2 / ss(background)``, sums of squares and products about the means over
    all rays and channels. Over one fixed background the second term is 0: the picture has the batch's mean colour. The
    sum is divided by the degrees of freedom, not by the count of the numbers: a picture that is fitted to few rays fits
    those better than others.

    Args:
        truth: ``[R, 3]``, over ``background``.
        background: ``[R, 3]``.
    """
    t, b = truth - truth.mean(0), background - background.mean(0)
    varies = b.square().sum()
    left = t.square().sum() - (t * b).sum().square() / varies.clamp_min(1e-12)  # none varies by less but by 0
    return left / (t.numel() - 3 - (varies > 1e-12).to(left.dtype)).clamp_min(1.0)


class Statistics:
    """Sums over the steps since the last line. They stay on the device, which is waited for when they are read."""

    def __init__(self, device: torch.device) -> None:
        """Begin the first line."""
        self._sums = torch.zeros(6, device=device)
        self._grad_norm = torch.zeros((), device=device)
        self._steps = self._rays = self._samples = 0

    def add(self, parts: Sequence[tuple[StepLoss, float]], batch: RayBatch, grad_norm: torch.Tensor | None) -> None:
        """Add one step. A number that is not finite stays so until the line is read.

        Args:
            parts: as :func:`batch_means` takes them.
            batch: the whole batch.
            grad_norm: norm of the gradient before clipping; None where it was not measured.
        """
        self._sums += batch_means(parts, batch)
        if grad_norm is not None:
            self._grad_norm = torch.maximum(self._grad_norm, grad_norm)
        self._steps += 1
        self._rays += len(batch.truth)
        self._samples += sum(out.samples for out, _ in parts)

    def total(self) -> float:
        """Return the sum of losses and gradient norms so far. It is not finite if one of them is not."""
        return float(self._sums[:2].sum() + self._grad_norm)

    def read(self) -> TrainLine:
        """Return the means over the steps so far, and begin a new line. Waits for the device."""
        names = ("loss", "mse", "blank_mse", "empty_rays", "opaque_rays", "alpha", "grad_norm")
        means = torch.cat((self._sums / self._steps, self._grad_norm[None])).tolist()
        line = TrainLine(
            **dict(zip(names, means, strict=True)), over_steps=self._steps, rays=self._rays, samples=self._samples
        )
        self.clear()
        return line

    def clear(self) -> None:
        """Begin a new line."""
        self._sums.zero_()
        self._grad_norm = torch.zeros_like(self._grad_norm)
        self._steps = self._rays = self._samples = 0


class Stopwatch:
    """Adds up the seconds spent inside its ``with`` blocks.

    Args:
        seconds: to start from.
    """

    def __init__(self, seconds: float) -> None:
        """Stand still."""
        self.seconds = seconds
        self._start = 0.0

    def __enter__(self) -> None:
        """Start."""
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.seconds += time.perf_counter() - self._start
