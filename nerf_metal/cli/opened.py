"""What the commands on a trained run share: their options, and the run, its model and its views once opened."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import tyro

from nerf_metal.models.options import Backend
from nerf_metal.util.errors import InputError

if TYPE_CHECKING:
    import torch

    from nerf_metal.data.scene import Split
    from nerf_metal.models import Model
    from nerf_metal.train.checkpoint import Checkpoint
    from nerf_metal.train.run_folder import RunFolder

RunArgument = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]


@dataclass(frozen=True)
class RunOptions:
    """The options of every command that works on a trained run."""

    run: RunArgument
    """Run folder that nerf-metal train made."""
    checkpoint: Literal["last", "best"] = "last"
    """Checkpoint to use: last is the newest undamaged one, best the one with the highest PSNR."""
    device: Literal["auto", "cpu", "mps", "cuda"] = "auto"
    """Device to compute on. auto uses mps if it is available, else cuda, else cpu."""
    backend: Backend = "auto"
    """Backend that runs the kernels. auto uses metal on mps, host on cpu, and torch on cuda."""


class OpenedModel(NamedTuple):
    """An opened run and its model, which is on its device."""

    folder: RunFolder
    checkpoint: Checkpoint
    model: Model
    device: torch.device


class Opened(NamedTuple):
    """An opened run, its model with memory reserved for rendering, and the chosen views of a split."""

    folder: RunFolder
    checkpoint: Checkpoint
    model: Model
    device: torch.device
    split: Split
    views: list[int]


def open_run(command: str, options: RunOptions, split: str, views: int | None) -> Opened:
    """Load the run, the model and the views that ``nerf-metal COMMAND RUN`` needs.

    Args:
        command: the command's name, for messages.
        options: the run, its checkpoint, the device and the backend.
        split: the split whose views are used.
        views: number of views, evenly spaced; None means all.

    Raises:
        InputError: an option is out of range, or the run, its checkpoint or its scene cannot be used.
    """
    if views is not None and views < 1:
        raise InputError(f"[{command}] --views must be at least 1, got {views}; leave it out for all")

    # Torch is imported from here on, so that help and wrong options are answered at once.
    from nerf_metal.data.scene import spread
    from nerf_metal.train.scenes import open_scene_of

    opened = open_model(command, options)
    images = open_scene_of(opened.folder.path, opened.checkpoint.config, (split,)).splits[split]
    opened.model.limit_memory(opened.checkpoint.config.max_memory, images.image_bytes, training=False)
    count = len(images)
    return Opened(*opened, images, spread(count, views or count))


def open_model(command: str, options: RunOptions) -> OpenedModel:
    """Load the run and the model that ``nerf-metal COMMAND RUN`` needs, without the scene. The caller reserves memory.

    Damaged checkpoints are skipped and named on standard error.

    Args:
        command: the command's name, for messages.
        options: the run, its checkpoint, the device and the backend.

    Raises:
        InputError: the device or the backend is not available, or the run or its checkpoint cannot be used.
    """
    from nerf_metal.train.devices import check_backend, pick_device
    from nerf_metal.train.loading import load_model
    from nerf_metal.train.run_folder import RunFolder

    device = pick_device(options.device)
    check_backend(options.backend, device)
    folder, _ = RunFolder.open(options.run, command)
    model, checkpoint = load_model(folder, options.backend, options.checkpoint)
    for note in checkpoint.notes:
        print(f"note: {note}", file=sys.stderr)
    model.to(device)
    return OpenedModel(folder, checkpoint, model, device)


def unwritable(command: str, error: OSError) -> InputError:
    """Return the error of a command that cannot write into the run folder."""
    return InputError(
        f"[{command}] the run folder must be writable, got {error.strerror} ({error.filename}); "
        "change its permissions or free some disk space"
    )
