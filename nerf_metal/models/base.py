"""What the trainer asks of a method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from nerf_metal.data.scene import Split
from nerf_metal.models.pixels import RenderedPixels
from nerf_metal.train.health import BatchSigns, LayerGroups
from nerf_metal.train.matmul_check import MatmulFinding


@dataclass(frozen=True)
class Step:
    """What a training step did. The tensors are on the device: reading them waits for it.

    Attributes:
        loss: what was minimised, without gradient.
        mse: mean squared error of the pictures' rays.
        signs: of the batch.
        grad_norm: of all gradients before clipping; None where it was not measured.
        rays: drawn.
        samples: that had gradients.
    """

    loss: torch.Tensor
    mse: torch.Tensor
    signs: BatchSigns
    grad_norm: torch.Tensor | None
    rays: int
    samples: int


class Method(Protocol):
    """A field, how it is rendered, and how it learns."""

    @property
    def module(self) -> nn.Module:
        """Everything that a checkpoint must hold."""

    def to(self, device: torch.device) -> None:
        """Move everything to a device."""

    def measure(self, split: Split) -> None:
        """Look at the training images before the first step of a new run: part of the training."""

    def prepare(self, split: Split, image_bytes: int) -> torch.optim.Optimizer:
        """Make what a step draws from, and the optimizer of the module's parameters that learn, in their order; weights
        that were saved are loaded before.

        Args:
            split: the training images.
            image_bytes: of all images, which count against ``max_memory``.

        Raises:
            InputError: ``max_memory`` is too small.
        """

    def self_test(self) -> MatmulFinding:
        """Check the gradients of the step's matrix products on the device, in a second; where only large calls are
        wrong, make smaller ones from now on. Draws nothing from torch's random state."""

    def train_step(self, step: int, lr: float, *, measure: bool = False) -> Step:
        """One step with learning rate ``lr``. What it draws depends on the seed and ``step`` alone.

        ``measure`` asks for the norms of the gradients, which may cost a pass over all weights.
        """

    @property
    def groups(self) -> LayerGroups:
        """What learns, by parts; after ``prepare``."""

    @property
    def grad_norms(self) -> torch.Tensor:
        """Norm of each group's gradient, before clipping, in the last step that measured them: ``[G]``."""

    @property
    def box(self) -> torch.Tensor:
        """The box ``[2, 3]`` outside of which there is nothing, world units."""

    def render(self, rays_o: torch.Tensor, rays_d: torch.Tensor, background: torch.Tensor) -> RenderedPixels:
        """What rays ``[R, 3]`` on the device show over a ``background [3]``."""

    def density(self, positions: torch.Tensor) -> torch.Tensor:
        """Densities ``[S]``, 1 / world unit, at ``positions [S, 3]`` on the device, as pictures have them; 0 outside of
        the box."""

    def colors(self, positions: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
        """Colours ``[S, 3]`` in [0, 1] at ``positions [S, 3]`` seen along unit ``directions [S, 3]``."""

    def reserve(self, image_bytes: int) -> None:
        """Make room to render beside images of so many bytes.

        Raises:
            InputError: ``max_memory`` is too small.
        """
