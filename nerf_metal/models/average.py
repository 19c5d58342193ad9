"""The moving average of weights that pictures are made from."""

from __future__ import annotations

import torch
from torch import nn

AVERAGE_EVERY = 8
"""Steps between updates of an average: each passes over all weights, and few steps move it little."""


@torch.no_grad()
def update_average(average: nn.Module, now: nn.Module, decay: float, step: int) -> None:
    """Exponential moving average with a shorter memory at the start, where old weights are worse than none.

    Args:
        average: what is updated, every :data:`AVERAGE_EVERY` steps.
        now: what learns; the same kind of module.
        decay: what a step keeps.
        step: steps done.
    """
    if step % AVERAGE_EVERY == 0:
        keep = min(decay, (step + 1) / (step + 10)) ** AVERAGE_EVERY
        for mean, weight in zip(average.parameters(), now.parameters(), strict=True):
            mean.lerp_(weight, 1.0 - keep)
