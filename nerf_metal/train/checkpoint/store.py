"""The folder of a run's checkpoints: what is put there, what stays, and which is taken."""

from __future__ import annotations

import dataclasses
import errno
import functools
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from nerf_metal.train.checkpoint.record import (
    FORMAT,
    OPTIMIZER,
    STEM,
    WEIGHTS,
    Checkpoint,
    DamagedError,
    checkpoint_files,
    fingerprint,
    open_whole,
    read,
    seal,
)
from nerf_metal.train.checkpoint.tensors import dump_optimizer, dump_weights, named_weights
from nerf_metal.train.options import TrainConfig, to_json
from nerf_metal.util.atomic import sweep_temporaries, write_atomically
from nerf_metal.util.errors import InputError


def save_checkpoint(
    folder: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    config: TrainConfig,
    *,
    average: Mapping[str, torch.Tensor] | None = None,
    step: int,
    train_seconds: float,
    near: float,
    far: float,
    rollbacks: int = 0,
    psnr: float | None = None,
    good: bool = True,
    state: dict[str, Any] | None = None,
    keep: int = 2,  # the last, and one to fall back on
) -> Path:
    """Write a checkpoint, read it back, and only then delete those that it replaces: all but the newest ``keep``, the
    newest ``keep`` good ones, and the one with the greatest PSNR; of those of one step only the newest counts, since
    what a rollback went back to is saved again behind it. One of the same name is replaced if it is damaged, and kept
    if it is whole. See :class:`Checkpoint` for what is saved.

    Returns:
        The path of the weights.

    Raises:
        OSError: it could not be saved; the other checkpoints are as they were.
    """
    contents = {WEIGHTS: dump_weights(model, average or {}), OPTIMIZER: dump_optimizer(model, optimizer)}
    path = folder / f"step_{step:08d}{f'_rollback_{rollbacks}' if rollbacks else ''}.json"
    about = {
        "format": FORMAT,
        "step": step,
        "train_seconds": train_seconds,
        "near": near,
        "far": far,
        "rollbacks": rollbacks,
        "psnr": None if psnr is None or math.isnan(psnr) else psnr,  # NaN is no greater and no less than any
        "good": good,
        "state": state or {},
        "config": to_json(config),
        "shapes": {name: list(tensor.shape) for name, tensor in named_weights(model, average or {}).items()},
        "files": {path.with_suffix(suffix).name: fingerprint(data) for suffix, data in contents.items()},
    }
    _sweep(folder)
    saved = _whole(path) or _write(path, {**contents, ".json": seal(about)})
    _prune(folder, keep, saved)
    return path.with_suffix(WEIGHTS)


def find_checkpoint(
    folder: Path, which: Literal["last", "best", "good"] = "last", *, avoid: Collection[str] = ()
) -> Checkpoint:
    """A checkpoint of a ``checkpoints`` folder, every file of it whole: the newest, the one with the greatest PSNR, or
    the newest good one. Damaged ones are passed over and named in its notes; those whose JSON has a name to ``avoid``
    are taken only where there is no other.

    Raises:
        InputError: there is none, or another version wrote it.
    """
    paths = checkpoint_files(folder)
    if not paths:
        raise InputError(
            f"[checkpoint] {folder} must hold a checkpoint (step_*.json), got none; "
            "give a run folder whose training got as far as its first evaluation"
        )
    found: list[Checkpoint] = []
    damaged: list[str] = []
    for path in sorted(reversed(paths), key=lambda path: path.name in avoid):  # stable: the newest first
        try:
            if which == "good" and not read(path).good:
                continue
            found.append(open_whole(path))
        except DamagedError as error:
            damaged.append(str(error))
        except OSError as error:
            damaged.append(f"{path.name} or a file beside it cannot be read ({error.strerror})")
        if found and which != "best":
            break
    if not found:
        wanted = "good" if which == "good" else "whole"
        got = "; ".join(damaged) or "none that was better than a blank page"
        cure = "restore one of them from a copy, or train anew" if damaged else "train anew with a smaller --lr"
        raise InputError(f"[checkpoint] {folder} must hold a {wanted} checkpoint, got: {got}; {cure}")
    chosen = max(found, key=_psnr)  # the first of equals: the newest
    notes = [f"{what}; the checkpoint of step {chosen.step} is used" for what in damaged]
    if which == "best" and chosen.psnr is None:
        notes.append(f"no checkpoint was evaluated; the last, of step {chosen.step}, is used")
    return dataclasses.replace(chosen, notes=tuple(notes))


def _psnr(checkpoint: Checkpoint) -> float:
    """What the best has most of; the least for one that was not evaluated."""
    return -math.inf if checkpoint.psnr is None else checkpoint.psnr


def _whole(path: Path) -> Checkpoint | None:
    """The checkpoint, if it is there and whole."""
    try:
        return open_whole(path)
    except (DamagedError, FileNotFoundError):
        return None


def _write(path: Path, contents: dict[str, bytes]) -> Checkpoint:
    """Write the files of the checkpoint ``path``, of which there is none or a damaged one, and read them back; on an
    error none is left."""
    try:
        path.unlink(missing_ok=True)  # first: no JSON may speak of other files than its own
        for suffix, data in contents.items():
            write_atomically(path.with_suffix(suffix), functools.partial(Path.write_bytes, data=data))
        return open_whole(path)
    except DamagedError as error:
        _delete(path)
        raise OSError(errno.EIO, f"the checkpoint reads back otherwise than written ({error})", str(path)) from None
    except BaseException:
        _delete(path)
        raise


def _delete(path: Path) -> None:
    """Delete a checkpoint, the JSON first: without it the others count for nothing."""
    for suffix in (".json", OPTIMIZER, WEIGHTS):
        path.with_suffix(suffix).unlink(missing_ok=True)


def _sweep(folder: Path) -> None:
    """Delete what saves and deletions that were killed have left."""
    sweep_temporaries(folder)
    for path in folder.glob("step_*.safetensors"):
        stem = path.name.partition(".")[0]
        if STEM.fullmatch(stem) and not (folder / f"{stem}.json").exists():
            path.unlink(missing_ok=True)


def _prune(folder: Path, keep: int, saved: Checkpoint) -> None:
    """Delete whole checkpoints that nobody needs. Those that are damaged, of another version or out of reach at the
    moment neither count nor go: what is wrong with them is for a person to judge."""
    whole: list[Checkpoint] = []
    for path in reversed(checkpoint_files(folder)):
        try:
            whole.append(saved if path == saved.path else open_whole(path))
        except (DamagedError, InputError, OSError):
            continue
    best = [checkpoint for checkpoint in sorted(whole, key=_psnr, reverse=True) if checkpoint.psnr is not None]
    good = [checkpoint for checkpoint in whole if checkpoint.good]
    newest = (*_of_different_steps(whole)[:keep], *_of_different_steps(good)[:keep])
    stay = {saved.path, *(checkpoint.path for checkpoint in (*newest, *best[:1]))}
    for checkpoint in whole:
        if checkpoint.path not in stay:
            _delete(checkpoint.path)


def _of_different_steps(checkpoints: list[Checkpoint]) -> list[Checkpoint]:
    """The first of each step."""
    first: dict[int, Checkpoint] = {}
    for checkpoint in checkpoints:
        first.setdefault(checkpoint.step, checkpoint)
    return list(first.values())
