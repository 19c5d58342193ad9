"""The JSON file of a checkpoint, the names of the checkpoint's files, and the check that they are undamaged."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nerf_metal.train.options import TrainConfig, from_json
from nerf_metal.util.errors import InputError

FORMAT, READABLE = 3, (2, 3)
"""Version of the format that is written, and the versions that can be read
(:mod:`nerf_metal.train.checkpoint.upgrade`)."""
WEIGHTS, OPTIMIZER = ".safetensors", ".optimizer.safetensors"
"""Suffixes of the files next to the JSON file."""
STEM = re.compile(r"step_(\d{8,})(?:_rollback_(\d+))?")
"""Pattern of a checkpoint's file names without suffix: the step and the number of rollbacks."""


class DamagedError(Exception):
    """Error raised when a file of a checkpoint is missing or damaged. The message names the file and the damage."""


@dataclass(frozen=True)
class Checkpoint:
    """The contents of a checkpoint's JSON file.

    Attributes:
        path: path of the JSON file.
        config: options of the run.
        step: number of training steps done.
        train_seconds: seconds of training done.
        near: least distance along a ray, world units.
        far: greatest distance along a ray, world units.
        shapes: shape of every weight, by name.
        rollbacks: number of rollbacks of the run before this checkpoint was saved.
        psnr: PSNR of the evaluation at this step, dB; None without an evaluation.
        good: whether the run was better than a blank picture when this was saved, or had only just started.
        state: further state of the training run, as JSON holds it.
        files: size in bytes and SHA-256 of the files next to the JSON file, by suffix.
        notes: sentences for a person about how the checkpoint was chosen.
        format: version of the format, one of :data:`READABLE`.
    """

    path: Path
    config: TrainConfig
    step: int
    train_seconds: float
    near: float
    far: float
    shapes: dict[str, list[int]]
    rollbacks: int
    psnr: float | None
    good: bool
    state: dict[str, Any]
    files: dict[str, dict[str, Any]]
    notes: tuple[str, ...] = ()
    format: int = FORMAT


def checkpoint_files(folder: Path) -> list[Path]:
    """Return the JSON files of a folder's checkpoints, sorted by rollbacks and then by step, so the oldest is first."""
    found = []
    for path in folder.glob("step_*.json"):
        if match := STEM.fullmatch(path.stem):
            found.append((int(match[2] or 0), int(match[1]), path))
    return [path for _, _, path in sorted(found)]


def fingerprint(contents: bytes) -> dict[str, Any]:
    """Return the size in bytes and the SHA-256 of a file's contents."""
    return {"bytes": len(contents), "sha256": hashlib.sha256(contents).hexdigest()}


def seal(about: dict[str, Any]) -> bytes:
    """Return the contents of a JSON file that holds ``about`` and a checksum of it."""
    about = json.loads(json.dumps(about))  # keys as they will be read: numbers sort differently from their texts
    return (json.dumps({**about, "checksum": _checksum(about)}, indent=1) + "\n").encode()


def read(path: Path) -> Checkpoint:
    """Read the JSON file of a checkpoint. The other files are not checked.

    Raises:
        DamagedError: the file is damaged.
        InputError: another version wrote the file.
        OSError: the file cannot be read.
    """
    try:
        contents = path.read_bytes()
        about: dict[str, Any] = json.loads(contents.decode())
        version = about["format"]
        # A flipped bit can look like another version, but the checksum shows it. The first format had no checksum.
        if version not in READABLE and about.get("checksum") in (None, _checksum(about)):
            age = "newer than this one: pip install -U nerf-metal" if version > FORMAT else "older than this one"
            raise InputError(
                f"[checkpoint] {path} must have format {' or '.join(map(str, READABLE))}, got {version}; "
                f"use the version of nerf_metal that wrote it ({age})"
            )
        if contents != seal(about):
            raise DamagedError(f"{path.name} is damaged: its checksum differs")
        return Checkpoint(
            path=path,
            format=int(version),
            config=from_json(about["config"], str(path)),
            step=int(about["step"]),
            train_seconds=float(about["train_seconds"]),
            near=float(about["near"]),
            far=float(about["far"]),
            shapes=dict(about["shapes"]),
            rollbacks=int(about["rollbacks"]),
            psnr=None if about["psnr"] is None else float(about["psnr"]),
            good=bool(about["good"]),
            state=dict(about["state"]),
            files={suffix: about["files"][path.with_suffix(suffix).name] for suffix in (WEIGHTS, OPTIMIZER)},
        )
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedError(
            f"{path.name} is damaged: it is not the JSON of a checkpoint ({type(error).__name__}: {error})"
        ) from None


def contents_of(checkpoint: Checkpoint, suffix: str) -> bytes:
    """Read a file next to the JSON file of a checkpoint, and check it.

    Args:
        checkpoint: contents of the JSON file.
        suffix: suffix of the file, see :data:`WEIGHTS` and :data:`OPTIMIZER`.

    Returns:
        The contents of the file.

    Raises:
        DamagedError: the file is missing or damaged.
        OSError: the file cannot be read.
    """
    path, expected = checkpoint.path.with_suffix(suffix), checkpoint.files[suffix]
    try:
        contents = path.read_bytes()
    except FileNotFoundError:
        raise DamagedError(f"{path.name} is missing") from None
    if len(contents) != expected["bytes"]:
        raise DamagedError(f"{path.name} is damaged: it has {len(contents)} bytes of {expected['bytes']}")
    if fingerprint(contents) != expected:
        raise DamagedError(f"{path.name} is damaged: its sha256 differs")
    return contents


def open_whole(path: Path) -> Checkpoint:
    """Read a checkpoint, and check all of its three files.

    Raises:
        DamagedError: a file is missing or damaged.
        InputError: another version wrote the checkpoint.
        OSError: a file cannot be read.
    """
    checkpoint = read(path)
    for suffix in checkpoint.files:
        contents_of(checkpoint, suffix)
    return checkpoint


def _checksum(about: dict[str, Any]) -> str:
    """Return the SHA-256 of the values in a JSON file, whatever its layout is."""
    said = {name: value for name, value in about.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(said, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
