"""Text files of captures, and what messages say about folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nerf_metal.util.errors import InputError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


def read_json(file: Path, where: str) -> dict[str, Any]:
    """Read a JSON file of cameras.

    Args:
        file: the file.
        where: start of messages, without brackets.

    Returns:
        The object at the top of the file.

    Raises:
        InputError: the file cannot be read, is not JSON, or does not hold an object.
    """
    try:
        meta = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise InputError(
            f"[{where}] {file} must be valid JSON, got {error.msg} at line {error.lineno} "
            f"column {error.colno}; correct that place or export the file again"
        ) from None
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(
            f"[{where}] {file} must be a readable UTF-8 text, got {error}; check its permissions and encoding"
        ) from None
    if not isinstance(meta, dict):
        raise InputError(
            f"[{where}] {file} must have an object with 'frames', got a {type(meta).__name__}; export the cameras again"
        )
    return meta


def listed_frames(meta: dict[str, Any], file: Path, where: str) -> list[object]:
    """Return the list ``frames`` of a JSON file of cameras.

    Args:
        meta: the object that :func:`read_json` returned.
        file: the file that it came from.
        where: start of messages, without brackets.

    Raises:
        InputError: ``frames`` is missing, is not a list, or is empty.
    """
    frames = meta.get("frames")
    if isinstance(frames, list) and frames:
        return frames
    got = "an empty list" if frames == [] else f"a {type(frames).__name__}"
    if "frames" not in meta:
        got = f"keys {sorted(meta)}"
    raise InputError(
        f"[{where}] {file} must have 'frames', a list with a frame for each image, got {got}; export the cameras again"
    )


def listing(root: Path) -> str:
    """List what a folder holds, for a message: the first eight names."""
    present = sorted(entry.name for entry in root.iterdir())
    return ", ".join(present[:8]) + (" and more" if len(present) > 8 else "") if present else "an empty folder"


def check_folder(root: Path, where: str, holding: str) -> None:
    """Check that a path is an existing folder.

    Args:
        root: the path.
        where: start of the message, without brackets.
        holding: what the folder should hold, for the message.

    Raises:
        InputError: the path does not exist or is a file.
    """
    if not root.is_dir():
        found = "a file" if root.exists() else "nothing there"
        raise InputError(
            f"[{where}] path must be an existing folder, got {root} ({found}); give the folder that holds {holding}"
        )
