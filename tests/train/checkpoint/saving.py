"""A model small enough to save a hundred times a second, and what a folder of checkpoints holds."""

import dataclasses
from pathlib import Path

import torch

from nerf_metal.train.checkpoint import Checkpoint, checkpoint_files, find_checkpoint, save_checkpoint
from nerf_metal.train.options import preset_config
from tests.stepping import fresh_model

BOX = torch.tensor([[-1.0, -2.0, -3.0], [1.0, 2.0, 3.0]])
CONFIG = dataclasses.replace(preset_config("small"), hidden_width=8, depth=2, position_bands=2, direction_bands=1)
SUFFIXES = (".json", ".safetensors", ".optimizer.safetensors")


def trained(config=CONFIG) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    """A model after one step of Adam."""
    model = fresh_model(config, BOX)
    optimizer = model.optimizer(1e-3)
    sum(p.square().sum() for p in model.parameters()).backward()
    optimizer.step()
    return model, optimizer


def save(folder: Path, step: int, model=None, optimizer=None, **options) -> Path:
    """Write a checkpoint, of a fresh model if none is given; returns its JSON."""
    if model is None:
        model, optimizer = trained()
    seconds = step / 10
    save_checkpoint(folder, model, optimizer, CONFIG, step=step, train_seconds=seconds, near=2.0, far=6.0, **options)
    rollbacks = options.get("rollbacks", 0)
    return folder / f"step_{step:08d}{f'_rollback_{rollbacks}' if rollbacks else ''}.json"


def contents(folder: Path) -> dict[str, bytes]:
    """Every file, by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def steps(folder: Path) -> list[int]:
    """Of the checkpoints there, the oldest first; nothing else may lie there."""
    paths = checkpoint_files(folder)
    assert set(folder.iterdir()) == {path.with_suffix(suffix) for path in paths for suffix in SUFFIXES}
    return [int(path.name[5:13]) for path in paths]


def whole(folder: Path, which: str = "last") -> Checkpoint:
    """The checkpoint, found without passing over a damaged one."""
    found = find_checkpoint(folder, which)
    assert found.notes == ()
    return found
