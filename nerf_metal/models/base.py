"""The base class of models: five members that every model implements, and defaults for the others."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import nn

from nerf_metal.data.batches import Batches, PixelBatches, RayBatch
from nerf_metal.data.scene import Split
from nerf_metal.models.matmul_check import MatmulFinding
from nerf_metal.models.pixels import RenderedPixels

LayerGroups = Mapping[str, Sequence[nn.Parameter]]
"""Type of the layer groups: the parameters that learn, by the name of their part of the model, such as ``fine.trunk``.
"""


class Space(NamedTuple):
    """The facts about a scene that a model needs when it is made.

    Attributes:
        aabb: box ``[2, 3]`` of the scene in front of the cameras, float32, world units.
        near: least distance along a ray, world units.
        far: greatest distance along a ray, world units.
        cascades: number of nested boxes that the scene needs, each twice as large as the one before.
        views: number of training images.
    """

    aabb: torch.Tensor
    near: float
    far: float
    cascades: int = 1
    views: int = 0


class StepLoss(NamedTuple):
    """The result of :meth:`Model.loss` for a batch of ``R`` rays.

    Attributes:
        loss: scalar with a gradient to the parameters. If it has no gradient, the step changes nothing.
        rgb: predicted colours ``[R, 3]``, without gradient.
        opacity: predicted opacities ``[R]``, without gradient.
        samples: number of samples that had a gradient.
    """

    loss: torch.Tensor
    rgb: torch.Tensor
    opacity: torch.Tensor
    samples: int


class Model(nn.Module, abc.ABC):
    """The base class of models: a radiance field with its sampling of rays and its loss.

    A model of your own implements :meth:`fit_to`, :meth:`loss`, :meth:`render`, :meth:`density` and :meth:`colors`, and
    holds its box as the buffer ``aabb``. All other members have defaults. Its ``state_dict`` holds everything that a
    checkpoint must hold, and the keys do not depend on options such as ``appearance``.

    The loop (:mod:`nerf_metal.train.loop`) calls ``loss``, then ``backward`` of the loss, then ``step`` of the
    optimizer. A model may implement each of the three calls as a single launch of a kernel.

    Attributes:
        Config: frozen dataclass of the model's options. The value of a field comes from the option of a run that has
            the same name, else from ``--field-options``, else it is the default.
        batch_rays: number of rays of the next batch. A model may change it from step to step.
        part_rays: largest number of rays of one call of :meth:`loss`. The loop splits a larger batch and adds the
            gradients.
        clips_gradients: whether the loop computes the norm of all gradients in each step and clips it by
            ``--clip-norm``. It is False if that pass over memory takes too long. The norm is then computed for the
            lines of the record only.

    Args:
        config: instance of :attr:`Config`.
        space: facts about the scene.
    """

    Config: ClassVar[type]
    batch_rays: int = 4096  # the NeRF paper's
    part_rays: int = 2**31  # all
    clips_gradients: bool = True

    def __init__(self, config: Any, space: Space) -> None:
        """Keep the options and the range of distances."""
        super().__init__()
        self.config, self.near, self.far = config, space.near, space.far

    # The five members of a model.

    @abc.abstractmethod
    def fit_to(self, split: Split) -> None:
        """Adapt the model to the training images once, before the first step of a new run.

        The time counts as training.

        Args:
            split: the training images.
        """

    @abc.abstractmethod
    def loss(self, batch: RayBatch, step: int) -> StepLoss:
        """Compute the loss of a batch with gradients.

        Random numbers must depend on ``batch.seed`` and ``step`` alone.

        Args:
            batch: rays with their true colours.
            step: number of training steps done.
        """

    @abc.abstractmethod
    def render(self, rays_o: torch.Tensor, rays_d: torch.Tensor, background: torch.Tensor) -> RenderedPixels:
        """Render rays ``rays_o, rays_d [R, 3]`` over a ``background [3]``, without gradients."""

    @abc.abstractmethod
    def density(self, positions: torch.Tensor) -> torch.Tensor:
        """Return the densities ``[S]``, 1 / world unit, at ``positions [S, 3]``; 0 outside of :attr:`box`."""

    @abc.abstractmethod
    def colors(self, positions: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
        """Return the colours ``[S, 3]`` in [0, 1] at ``positions [S, 3]`` seen along unit ``directions [S, 3]``."""

    # What has a default.

    @property
    def box(self) -> torch.Tensor:
        """The box ``[2, 3]`` outside of which there is nothing, world units. Default: the buffer ``aabb``."""
        box: torch.Tensor = self.get_buffer("aabb")
        return box

    def batches(self, split: Split, *, background: str, seed: int, device: torch.device) -> Batches:
        """Return the source of the batches. Default: all pixels of all images.

        Args:
            split: the training images.
            background: name of the background, see :mod:`nerf_metal.data.background`.
            seed: seed of the run.
            device: device of the batches.
        """
        return PixelBatches(split, background, near_object=False, seed=seed, device=device)

    def optimizer(self, lr: float) -> torch.optim.Optimizer:
        """Return the optimizer of all parameters that learn, in the order of :meth:`parameters`. Default: Adam.

        A parameter group may have a ``rate``: a factor on the learning rate that the loop sets in each step.

        Args:
            lr: initial learning rate.
        """
        # eps is that of instant-ngp (Müller et al. 2022), because gradients of a mean over rays are small numbers.
        return torch.optim.Adam([p for p in self.parameters() if p.requires_grad], lr=lr, eps=1e-15, fused=True)

    def layer_groups(self) -> LayerGroups:
        """Return the parameters that learn, by part, for the norms in the record.

        Default: one group for each direct child of the model.
        """
        groups: dict[str, list[nn.Parameter]] = {}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                groups.setdefault(name.partition(".")[0], []).append(parameter)
        return groups

    def limit_memory(self, max_memory: float, held_bytes: int, *, training: bool) -> None:
        """Choose the sizes of chunks and batches, so that training or rendering fits into memory. Default: do nothing.

        Args:
            max_memory: memory for images, weights and activations, GB (10^9 bytes).
            held_bytes: bytes of it that are in use in any case: all images and the averaged weights.
            training: whether memory is needed for gradients and the optimizer too.

        Raises:
            InputError: it does not fit.
        """

    def self_test(self) -> MatmulFinding | None:
        """Check the gradients of the model's matrix products on its device, within a second. Default: do nothing.

        If only large calls are wrong, the model makes smaller ones afterwards. The check does not draw from torch's
        random state.

        Returns:
            The result of the check, or None if there is no check.
        """
        return None
