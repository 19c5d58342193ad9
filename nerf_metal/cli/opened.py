"""A run that a command looks at: its method with a checkpoint's weights, and the views asked for."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Literal, NamedTuple

from nerf_metal.train.options import Backend
from nerf_metal.util.errors import InputError

if TYPE_CHECKING:
    import torch

    from nerf_metal.data.scene import Split
    from nerf_metal.models import Model
    from nerf_metal.train.checkpoint import Checkpoint
    from nerf_metal.train.run_folder import RunFolder


class OpenedModel(NamedTuple):
    """The run and its method, on its device."""

    folder: RunFolder
    checkpoint: Checkpoint
    model: Model
    device: torch.device


class Opened(NamedTuple):
    """The run, its method on its device with room to render, and which views of a split to take."""

    folder: RunFolder
    checkpoint: Checkpoint
    model: Model
    device: torch.device
    split: Split
    views: list[int]


def open_run(
    command: str,
    run: str,
    split: str,
    views: int | None,
    device: str,
    backend: Backend,
    which: Literal["last", "best"],
) -> Opened:
    """Load what ``nerf-metal COMMAND RUN`` works on.

    Args:
        command: for messages.
        run: folder of the run.
        split: whose cameras.
        views: how many, evenly spaced; None is all.
        device: as :func:`nerf_metal.train.devices.pick_device` takes it.
        backend: of what has a kernel.
        which: the newest checkpoint or the one with the greatest PSNR; damaged ones are named on stderr.

    Raises:
        InputError: an option is out of range, or the run, its checkpoint or its scene cannot be used.
    """
    if views is not None and views < 1:
        raise InputError(f"[{command}] --views must be at least 1, got {views}; leave it out for all")

    # From here on torch is needed: help and bad options came first.
    from nerf_metal.data.scene import spread
    from nerf_metal.train.scenes import open_scene_of

    opened = open_model(command, run, device, backend, which)
    images = open_scene_of(opened.folder.path, opened.checkpoint.config, (split,)).splits[split]
    opened.model.limit_memory(checkpoint.config.max_memory, images.image_bytes, training=False)
    count = len(images)
    return Opened(*opened, images, spread(count, views or count))


def open_model(command: str, run: str, device: str, backend: Backend, which: Literal["last", "best"]) -> OpenedModel:
    """Load what ``nerf-metal COMMAND RUN`` works on, without the scene; see :func:`open_run`. The caller reserves
    memory.

    Raises:
        InputError: as :func:`open_run`, but for the scene.
    """
    from nerf_metal.train.loading import load_model
    from nerf_metal.train.devices import check_backend, pick_device
    from nerf_metal.train.run_folder import RunFolder

    place = pick_device(device)
    check_backend(backend, place)
    folder, _ = RunFolder.open(run, command)
    model, checkpoint = load_model(folder, backend, which)
    for note in checkpoint.notes:
        print(f"note: {note}", file=sys.stderr)
    model.to(place)
    return OpenedModel(folder, checkpoint, model, place)
