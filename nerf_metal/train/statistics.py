"""Sums of the results of training steps. They stay on the device until a line of the record is read."""

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
"""Opacity below which a ray counts as empty, and above which it counts as opaque: about three steps of an 8-bit picture
from 0 and from 1."""


@torch.no_grad()
def batch_means(parts: Sequence[tuple[StepLoss, float]], batch: RayBatch) -> torch.Tensor:
    """Return the means of a batch: loss, mse, blank_mse, empty_rays, opaque_rays and alpha, float32 ``[6]``.

    Args:
        parts: losses of the parts of the batch, in order, each with the part's fraction of the rays.
        batch: whole batch.
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

    Such a picture shows ``a + b * background``. The least squares over ``a`` (a number for each channel) and ``b``
    leave ``ss(truth) - sp(truth, background)^2 / ss(background)``, where ``ss`` and ``sp`` are sums of squares and of
    products about the means, over all rays and channels. The second term is 0 over one fixed background: the picture
    has the mean colour of the batch. The sum is divided by the degrees of freedom and not by the number of values,
    because a picture that is fitted to few rays fits these better than others.

    Args:
        truth: true colours ``[R, 3]`` in [0, 1], over ``background``.
        background: background of each ray, ``[R, 3]`` in [0, 1].
    """
    t, b = truth - truth.mean(0), background - background.mean(0)
    varies = b.square().sum()
    left = t.square().sum() - (t * b).sum().square() / varies.clamp_min(1e-12)  # a sum below this is 0
    return left / (t.numel() - 3 - (varies > 1e-12).to(left.dtype)).clamp_min(1.0)


class Statistics:
    """The sums over the steps since the last line. They stay on the device, so that only reading them waits for it.

    Args:
        device: device of the model.
    """

    def __init__(self, device: torch.device) -> None:
        """Begin the first line."""
        self._sums = torch.zeros(6, device=device)
        self._grad_norm = torch.zeros((), device=device)
        self._steps = self._rays = self._samples = 0

    def add(self, parts: Sequence[tuple[StepLoss, float]], batch: RayBatch, grad_norm: torch.Tensor | None) -> None:
        """Add one step. A number that is not finite stays so until the line is read.

        Args:
            parts: losses of the parts of the batch, in order, each with the part's fraction of the rays.
            batch: whole batch.
            grad_norm: norm of the gradient before clipping; None if it was not computed.
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
        """Return the means over the steps so far, and begin a new line. The call waits for the device."""
        names = ("loss", "mse", "blank_mse", "empty_rays", "opaque_rays", "alpha", "grad_norm")
        means = torch.cat((self._sums / self._steps, self._grad_norm[None])).tolist()
        line = TrainLine(
            **dict(zip(names, means, strict=True)), over_steps=self._steps, rays=self._rays, samples=self._samples
        )
        self.clear()
        return line

    def clear(self) -> None:
        """Discard the sums and begin a new line."""
        self._sums.zero_()
        self._grad_norm = torch.zeros_like(self._grad_norm)
        self._steps = self._rays = self._samples = 0


class Stopwatch:
    """A stopwatch that adds up the seconds inside its ``with`` blocks.

    Attributes:
        seconds: seconds so far.

    Args:
        seconds: seconds to start from.
    """

    def __init__(self, seconds: float) -> None:
        """Set the seconds. The stopwatch stands still."""
        self.seconds = seconds
        self._start = 0.0

    def __enter__(self) -> None:
        """Start the stopwatch."""
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        """Stop the stopwatch."""
        self.seconds += time.perf_counter() - self._start
