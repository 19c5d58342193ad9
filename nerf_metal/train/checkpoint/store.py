"""The folder of a run's checkpoints: saving, choosing and deleting checkpoints."""

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
    keep: int = 2,  # the last one, and one in case that the last is damaged
) -> Path:
    """Write a checkpoint, read it back, and then delete the checkpoints that are no longer needed.

    The newest ``keep`` checkpoints stay, the newest ``keep`` good ones, and the one with the highest PSNR. Of several
    checkpoints of one step only the newest counts, because a rollback saves the checkpoint that it returned to again.
    An existing checkpoint of the same name is replaced if it is damaged, and kept if it is undamaged.

    Args:
        folder: the ``checkpoints`` folder of the run.
        model: model whose weights are saved.
        optimizer: Adam optimizer of the model.
        config: options of the run.
        average: averaged weights by name; None if there is no average.
        step: number of training steps done.
        train_seconds: seconds of training done.
        near: least distance along a ray, world units.
        far: greatest distance along a ray, world units.
        rollbacks: number of rollbacks so far.
        psnr: PSNR of the evaluation at this step, dB; None without an evaluation.
        good: whether a rollback may return to this checkpoint.
        state: further state of the training run, as JSON holds it.
        keep: number of newest checkpoints to keep.

    Returns:
        The path of the weights.

    Raises:
        OSError: the checkpoint could not be saved. The other checkpoints are unchanged.
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
        "psnr": None if psnr is None or math.isnan(psnr) else psnr,  # NaN cannot be compared
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
    """Find an undamaged checkpoint.

    Damaged checkpoints are skipped and named in the notes of the result.

    Args:
        folder: the ``checkpoints`` folder of a run.
        which: ``last`` for the newest checkpoint, ``best`` for the one with the highest PSNR, ``good`` for the newest
            good one.
        avoid: names of JSON files whose checkpoints are used only if there is no other.

    Raises:
        InputError: there is no such checkpoint, or another version wrote it.
    """
    paths = checkpoint_files(folder)
    if not paths:
        raise InputError(
            f"[checkpoint] {folder} must hold a checkpoint (step_*.json), got none; "
            "give a run folder whose training has saved a checkpoint"
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
        wanted = "a good" if which == "good" else "an undamaged"
        got = "; ".join(damaged) or "none that was better than a blank picture"
        cure = "restore one of them from a copy, or train again" if damaged else "train again with a smaller --lr"
        raise InputError(f"[checkpoint] {folder} must hold {wanted} checkpoint, got: {got}; {cure}")
    chosen = max(found, key=_psnr)  # of equal ones the first, which is the newest
    notes = [f"{what}; the checkpoint of step {chosen.step} is used" for what in damaged]
    if which == "best" and chosen.psnr is None:
        notes.append(f"no checkpoint was evaluated; the last one, of step {chosen.step}, is used")
    return dataclasses.replace(chosen, notes=tuple(notes))


def _psnr(checkpoint: Checkpoint) -> float:
    """Return the PSNR of a checkpoint, or minus infinity if it was not evaluated."""
    return -math.inf if checkpoint.psnr is None else checkpoint.psnr


def _whole(path: Path) -> Checkpoint | None:
    """Return the checkpoint, or None if it is missing or damaged."""
    try:
        return open_whole(path)
    except (DamagedError, FileNotFoundError):
        return None


def _write(path: Path, contents: dict[str, bytes]) -> Checkpoint:
    """Write the files of the checkpoint ``path`` and read them back. After an error no file of it is left.

    The checkpoint must be missing or damaged before.
    """
    try:
        path.unlink(missing_ok=True)  # first, because a JSON file must never describe files of another save
        for suffix, data in contents.items():
            write_atomically(path.with_suffix(suffix), functools.partial(Path.write_bytes, data=data))
        return open_whole(path)
    except DamagedError as error:
        _delete(path)
        what = f"the checkpoint differs from what was written when it is read back ({error})"
        raise OSError(errno.EIO, what, str(path)) from None
    except BaseException:
        _delete(path)
        raise


def _delete(path: Path) -> None:
    """Delete a checkpoint. The JSON file is deleted first, because the others do not count without it."""
    for suffix in (".json", OPTIMIZER, WEIGHTS):
        path.with_suffix(suffix).unlink(missing_ok=True)


def _sweep(folder: Path) -> None:
    """Delete the files that an interrupted save or deletion left behind."""
    sweep_temporaries(folder)
    for path in folder.glob("step_*.safetensors"):
        stem = path.name.partition(".")[0]
        if STEM.fullmatch(stem) and not (folder / f"{stem}.json").exists():
            path.unlink(missing_ok=True)


def _prune(folder: Path, keep: int, saved: Checkpoint) -> None:
    """Delete undamaged checkpoints that are not needed.

    Checkpoints that are damaged, unreadable or of another version do not count and are not deleted: a person has to
    decide about them.
    """
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
    """Return the first checkpoint of each step."""
    first: dict[int, Checkpoint] = {}
    for checkpoint in checkpoints:
        first.setdefault(checkpoint.step, checkpoint)
    return list(first.values())
