"""What a checkpoint's files are called, what its JSON says, and whether they are what was written."""

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
"""The format that is written, and those that are read (:mod:`nerf_metal.train.checkpoint.upgrade`)."""
WEIGHTS, OPTIMIZER = ".safetensors", ".optimizer.safetensors"
"""Suffixes of the files beside the JSON."""
STEM = re.compile(r"step_(\d{8,})(?:_rollback_(\d+))?")


class DamagedError(Exception):
    """A file of a checkpoint is missing or not what was written; the text says which file and how."""


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
        rollbacks: of the run by the watchdog, before this was saved.
        psnr: of the evaluation at this step; None without one.
        good: better than a blank page when it was saved, or the start of a run.
        state: what the trainer keeps besides.
        files: bytes and SHA-256 of the files beside the JSON, by suffix.
        notes: sentences for people about how it was found.
        format: of the files, one of :data:`READABLE`.
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
    """The JSON files of a folder's checkpoints, the oldest first: by rollbacks, then by step."""
    found = []
    for path in folder.glob("step_*.json"):
        if match := STEM.fullmatch(path.stem):
            found.append((int(match[2] or 0), int(match[1]), path))
    return [path for _, _, path in sorted(found)]


def fingerprint(contents: bytes) -> dict[str, Any]:
    """By what a file is known again."""
    return {"bytes": len(contents), "sha256": hashlib.sha256(contents).hexdigest()}


def seal(about: dict[str, Any]) -> bytes:
    """The contents of a JSON file that says ``about``, and a checksum of it."""
    about = json.loads(json.dumps(about))  # keys as they will be read: numbers sort otherwise than their texts
    return (json.dumps({**about, "checksum": _checksum(about)}, indent=1) + "\n").encode()


def read(path: Path) -> Checkpoint:
    """What a checkpoint's JSON says; its other files are not looked at.

    Raises:
        DamagedError: it is not what was written.
        InputError: another version wrote it.
        OSError: it cannot be read.
    """
    try:
        contents = path.read_bytes()
        about: dict[str, Any] = json.loads(contents.decode())
        version = about["format"]
        # A flipped bit can look like another version, but not with its checksum; the first format had none.
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
            f"{path.name} is damaged: it is no checkpoint's JSON ({type(error).__name__}: {error})"
        ) from None


def contents_of(checkpoint: Checkpoint, suffix: str) -> bytes:
    """The contents of the file beside the JSON, found to be what was written.

    Raises:
        DamagedError: they are not.
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
    """A checkpoint whose three files are all what was written.

    Raises:
        DamagedError: one of them is not.
        InputError: another version wrote it.
        OSError: one of them cannot be read.
    """
    checkpoint = read(path)
    for suffix in checkpoint.files:
        contents_of(checkpoint, suffix)
    return checkpoint


def _checksum(about: dict[str, Any]) -> str:
    """SHA-256 of what a JSON file says, however it is laid out."""
    said = {name: value for name, value in about.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(said, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
