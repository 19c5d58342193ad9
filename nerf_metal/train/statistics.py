"""Sums and seconds of training steps between two lines of ``metrics.jsonl``."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from nerf_metal.models import Step


@dataclass(frozen=True)
class LogLine:
    """Means over the steps since the last line (of ``grad_norm`` the greatest), and what they did together."""

    steps: int
    loss: float
    mse: float
    blank_mse: float
    empty_rays: float
    opaque_rays: float
    alpha: float
    grad_norm: float
    rays: int
    samples: int


class Log:
    """Adds up steps on the device, which is waited for when they are read."""

    def __init__(self, device: torch.device) -> None:
        """Begin the first line."""
        self._sums = torch.zeros(6, device=device)
        self._grad_norm = torch.zeros((), device=device)
        self._steps = self._rays = self._samples = 0

    def add(self, step: Step) -> None:
        """One step more; a number that is not finite stays so until the line is read."""
        self._sums += torch.stack((step.loss, step.mse, *step.signs))
        if step.grad_norm is not None:
            self._grad_norm = torch.maximum(self._grad_norm, step.grad_norm)
        self._steps, self._rays, self._samples = self._steps + 1, self._rays + step.rays, self._samples + step.samples

    def sum(self) -> float:
        """Of losses and gradients so far: not finite where one of them is not."""
        return float(self._sums[:2].sum() + self._grad_norm)

    def read(self) -> LogLine:
        """The line, and begin a new one."""
        loss, mse, blank_mse, empty, opaque, alpha, norm = torch.cat(
            (self._sums / self._steps, self._grad_norm[None])
        ).tolist()
        line = LogLine(
            self._steps, loss, mse, blank_mse, empty, opaque, alpha, norm, rays=self._rays, samples=self._samples
        )
        self.clear()
        return line

    def clear(self) -> None:
        """Begin a new line."""
        self._sums.zero_()
        self._grad_norm = torch.zeros_like(self._grad_norm)
        self._steps = self._rays = self._samples = 0


class Watch:
    """Adds up the seconds spent inside its ``with`` blocks."""

    def __init__(self, seconds: float) -> None:
        """Start from so many seconds."""
        self.seconds = seconds
        self._start = 0.0

    def __enter__(self) -> None:
        """Start the clock."""
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self.seconds += time.perf_counter() - self._start
