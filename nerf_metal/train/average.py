"""The exponential moving average of the weights. Pictures are made from these averaged weights."""

from __future__ import annotations

import copy

import torch

from nerf_metal.models import Model

UPDATE_EVERY = 8
"""Number of steps between updates of the average. An update reads all weights, and a few steps change them little."""


class AveragedModel:
    """A copy of a model that holds the exponential moving average of the model's weights.

    The copy shares its buffers with the model that learns: a box and an occupancy grid are not averaged.

    Attributes:
        model: model with the averaged weights, for pictures. It is the learning model itself if ``decay`` is 0.

    Args:
        model: model that learns, on its device.
        decay: fraction of the average that each step keeps. 0 means no average.
    """

    def __init__(self, model: Model, decay: float) -> None:
        """Start the average at the present weights of the model."""
        self._learning, self._decay, self.model = model, decay, model
        if decay > 0:
            shared = {id(buffer): buffer for buffer in model.buffers()}
            self.model = copy.deepcopy(model, shared).requires_grad_(False)

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """The averaged weights by name, without copies. The mapping is empty if there is no average."""
        return {} if self.model is self._learning else dict(self.model.named_parameters())

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Add the weights after ``step`` to the average. Only every :data:`UPDATE_EVERY`-th step is added.

        The decay is smaller at the start, because the first weights are far from useful.
        """
        if self.model is self._learning or step % UPDATE_EVERY:
            return
        keep = min(self._decay, (step + 1) / (step + 10)) ** UPDATE_EVERY
        for mean, weight in zip(self.model.parameters(), self._learning.parameters(), strict=True):
            if weight.requires_grad:
                mean.lerp_(weight, 1.0 - keep)
