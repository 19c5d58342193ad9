"""Loading of a run's model from a checkpoint, for rendering."""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch

from nerf_metal.models import Model, Space, build_model
from nerf_metal.models.options import Backend
from nerf_metal.models.registry import model_config
from nerf_metal.train.checkpoint import Checkpoint, find_checkpoint
from nerf_metal.train.checkpoint.tensors import load_pictured
from nerf_metal.train.run_folder import RunFolder


def load_model(
    folder: RunFolder, backend: Backend = "auto", which: Literal["last", "best", "good"] = "last"
) -> tuple[Model, Checkpoint]:
    """Load a run's model on the CPU, with the averaged weights if the run has them.

    Args:
        folder: run folder.
        backend: implementation of the kernels, see :mod:`nerf_metal.ops`.
        which: ``last`` for the newest checkpoint, ``best`` for the one with the highest PSNR, ``good`` for the newest
            good one.

    Returns:
        The model and the checkpoint. The options of the checkpoint name the folder where the images are now.

    Raises:
        InputError: there is no such undamaged checkpoint, or its model cannot be made here.
    """
    checkpoint = find_checkpoint(folder.checkpoints, which)
    config = dataclasses.replace(checkpoint.config, data=folder.data)
    checkpoint = dataclasses.replace(checkpoint, config=config)
    config = dataclasses.replace(config, backend=backend)
    views = max((checkpoint.shapes.get(name, [0])[0] for name in ("corrections.poses", "corrections.gains")), default=0)
    box = torch.zeros(2, 3)  # replaced by the box in the checkpoint
    space = Space(box, checkpoint.near, checkpoint.far, config.cascades or 1, views)
    model = build_model(config.field, model_config(config.field, config, config.field_options), space, config.seed)
    load_pictured(checkpoint, model)
    return model, checkpoint
