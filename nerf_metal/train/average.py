"""The exponential moving average of the weights, which pictures are made from."""

from __future__ import annotations

import copy

import torch

from nerf_metal.models import Model

UPDATE_EVERY = 8
"""Steps between updates of the average: each passes over all weights, and few steps move it little."""


class AveragedModel:
    """A model with averaged weights.

    Its buffers are those of the model that learns, the same tensors: a box and an occupancy grid are not averaged.

    Attributes:
        model: for pictures. The model that learns itself where ``decay`` is 0.

    Args:
        model: what learns, on its device.
        decay: what a step keeps of the average; 0: no average.
    """

    def __init__(self, model: Model, decay: float) -> None:
        """Start at the weights that the model has."""
        self._learning, self._decay, self.model = model, decay, model
        if decay > 0:
            shared = {id(buffer): buffer for buffer in model.buffers()}
            self.model = copy.deepcopy(model, shared).requires_grad_(False)

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """The averaged weights by name, as views; none where there is no average."""
        return {} if self.model is self._learning else dict(self.model.named_parameters())

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take the weights after ``step`` into account, every :data:`UPDATE_EVERY` steps.

        The memory is shorter at the start, where old weights are worse than none.
        """
        if self.model is self._learning or step % UPDATE_EVERY:
            return
        keep = min(self._decay, (step + 1) / (step + 10)) ** UPDATE_EVERY
        for mean, weight in zip(self.model.parameters(), self._learning.parameters(), strict=True):
            if weight.requires_grad:
                mean.lerp_(weight, 1.0 - keep)
