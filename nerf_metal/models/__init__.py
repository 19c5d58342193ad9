"""How a scene is learnt: what a training step does, and what the result looks like."""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch

from nerf_metal.models.base import Method, Step
from nerf_metal.models.coarse_fine.model import CoarseFineMethod
from nerf_metal.models.hash_grid.model import HashGridMethod
from nerf_metal.train.checkpoint import Checkpoint, find_checkpoint, load_weights
from nerf_metal.train.options import Backend, TrainConfig
from nerf_metal.train.run_folder import RunFolder

__all__ = ["CoarseFineMethod", "HashGridMethod", "Method", "Step", "build_method", "load_method"]


def load_method(
    folder: RunFolder, backend: Backend = "auto", which: Literal["last", "best", "good"] = "last"
) -> tuple[Method, Checkpoint]:
    """A run's method with the weights of its last, best or last good checkpoint, on the CPU, and that checkpoint.

    Raises:
        InputError: there is no such checkpoint that is whole.
    """
    checkpoint = find_checkpoint(folder.checkpoints, which)
    checkpoint = dataclasses.replace(checkpoint, config=dataclasses.replace(checkpoint.config, data=folder.data))
    config = dataclasses.replace(checkpoint.config, backend=backend)
    views = max((checkpoint.shapes.get(name, [0])[0] for name in ("corrections.poses", "corrections.gains")), default=0)
    method = build_method(config, torch.zeros(2, 3), checkpoint.near, checkpoint.far, views)  # the box is a weight
    load_weights(checkpoint, method.module)
    return method, checkpoint


def build_method(config: TrainConfig, aabb: torch.Tensor, near: float, far: float, views: int = 0) -> Method:
    """The method that the options describe, with weights drawn from ``config.seed``, on the CPU.

    Args:
        config: the options.
        aabb: the scene's box ``[2, 3]``, world units; zeros where weights are loaded, which bring their own.
        near: least distance along a ray, world units.
        far: greatest distance, world units.
        views: training images, whose exposures and poses may be learnt.
    """
    kind = HashGridMethod if config.field == "hashgrid" else CoarseFineMethod
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return kind(config, aabb, near, far, views)
