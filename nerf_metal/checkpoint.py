"""Checkpoints: weights and optimizer as safetensors, and beside them JSON that says what they are.

``checkpoints/step_00001500.safetensors`` holds the weights, ``.optimizer.safetensors`` Adam's moments,
``.json`` format, options, step, seconds and the shape of every weight. The JSON is written last and every
file by a temporary name and a rename: a checkpoint without its JSON does not exist, and an interrupted write
    leaves the one before.

No random state is kept: what a step draws depends on the seed and the step alone (:mod:`nerf_metal.batches`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from nerf_metal.config import TrainConfig, from_json, to_json
from nerf_metal.errors import InputError

FORMAT = 1
KEEP = 2
"""Checkpoints that stay: the last, and one to fall back on."""


@dataclass(frozen=True)
class Checkpoint:
    """What the JSON of a checkpoint says.

    Attributes:
        path: the JSON file.
        config: options of the run.
        step: training steps done.
        train_seconds: seconds of training done.
        near: least distance along a ray, world units.
        far: greatest distance, world units.
        shapes: of every weight, by name.
    """

    path: Path
    config: TrainConfig
    step: int
    train_seconds: float
    near: float
    far: float
    shapes: dict[str, list[int]]


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then rename it: readers see all of it or
    nothing."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def save_checkpoint(
    folder: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    config: TrainConfig,
    *,
    step: int,
    train_seconds: float,
    near: float,
    far: float,
) -> Path:
    """Write a checkpoint and delete all but the last :data:`KEEP`; returns the path of its weights."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    names = _learning(model)
    moments = {
        f"{names[index]}/{key}": torch.as_tensor(value).cpu().contiguous()
        for index, state in optimizer.state_dict()["state"].items()
        for key, value in state.items()
    }
    about = {
        "format": FORMAT,
        "step": step,
        "train_seconds": train_seconds,
        "near": near,
        "far": far,
        "config": to_json(config),
        "shapes": {name: list(tensor.shape) for name, tensor in weights.items()},
    }
    stem = folder / f"step_{step:08d}"
    path = stem.with_suffix(".safetensors")
    write_atomically(path, lambda to: save_file(weights, to))
    write_atomically(stem.with_suffix(".optimizer.safetensors"), lambda to: save_file(moments, to))
    write_atomically(stem.with_suffix(".json"), lambda to: to.write_text(json.dumps(about, indent=1) + "\n"))
    for old in sorted(folder.glob("step_*.json"))[:-KEEP]:
        for suffix in (".json", ".optimizer.safetensors", ".safetensors"):
            old.with_suffix(suffix).unlink(missing_ok=True)
    return path


def find_checkpoint(folder: Path) -> Checkpoint:
    """Read about the last checkpoint of a ``checkpoints`` folder.

    Raises:
        InputError: there is none, or its JSON cannot be read.
    """
    found = sorted(folder.glob("step_*.json"))
    if not found:
        raise InputError(
            f"[checkpoint] {folder} must hold a checkpoint (step_*.json), got none; "
            "give a run folder whose training got as far as its first evaluation"
        )
    path = found[-1]
    try:
        about: dict[str, Any] = json.loads(path.read_text())
        version = about["format"]
        if version != FORMAT:
            raise InputError(
                f"[checkpoint] {path} must have format {FORMAT}, got {version}; use the version that wrote it"
            )
        return Checkpoint(
            path=path,
            config=from_json(about["config"], str(path)),
            step=int(about["step"]),
            train_seconds=float(about["train_seconds"]),
            near=float(about["near"]),
            far=float(about["far"]),
            shapes=dict(about["shapes"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"[checkpoint] {path} must be a checkpoint's JSON, got {type(error).__name__}: {error}; "
            "delete it to use the checkpoint before"
        ) from None


def load_weights(checkpoint: Checkpoint, model: nn.Module) -> None:
    """Copy a checkpoint's weights into ``model``, on the model's device.

    Raises:
        InputError: the file is missing or damaged, or belongs to another model; the message names the first
            tensor that differs.
    """
    path = checkpoint.path.with_suffix(".safetensors")
    weights = _load(path)
    expected = model.state_dict()
    for name in sorted(set(weights) | set(expected)):
        have = list(weights[name].shape) if name in weights else None
        want = list(expected[name].shape) if name in expected else None
        if have != want:
            raise InputError(
                f"[checkpoint] {path} must hold {name} of shape {want or 'nothing'}, "
                f"got {have or 'nothing'}; it is another model's: use the options in its run's config.json"
            )
    model.load_state_dict(weights)


def load_optimizer(checkpoint: Checkpoint, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put Adam's moments back, for parameters named as in ``model``.

    Raises:
        InputError: the file is missing or damaged.
    """
    moments = _load(checkpoint.path.with_suffix(".optimizer.safetensors"))
    state: dict[int, dict[str, torch.Tensor]] = {}
    for index, name in enumerate(_learning(model)):
        prefix = f"{name}/"
        state[index] = {key[len(prefix) :]: value for key, value in moments.items() if key.startswith(prefix)}
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _learning(model: nn.Module) -> list[str]:
    """Names of the parameters that an optimizer has, in its order."""
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]


def _load(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise InputError(
            f"[checkpoint] {path} must exist beside its JSON, got nothing; "
            "restore it, or delete the JSON to use the checkpoint before"
        )
    try:
        tensors: dict[str, torch.Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"[checkpoint] {path} must be a whole safetensors file, got {error}; "
            "delete its JSON to use the checkpoint before"
        ) from None
    return tensors
