"""Text that people's folders hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nerf_metal.util.errors import InputError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


def read_json(file: Path, where: str) -> dict[str, Any]:
    """A JSON file of cameras: an object at the top.

    Args:
        file: the file.
        where: what messages start with, without brackets.

    Raises:
        InputError: it cannot be read, is not JSON, or holds no object.
    """
    try:
        meta = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise InputError(
            f"[{where}] {file} must be valid JSON, got {error.msg} at line {error.lineno} "
            f"column {error.colno}; mend that place or export the file again"
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
    """What ``frames`` of such a file lists.

    Raises:
        InputError: no list, or an empty one.
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
    """What a folder holds, for a message."""
    present = sorted(entry.name for entry in root.iterdir())
    return ", ".join(present[:8]) + (" and more" if len(present) > 8 else "") if present else "an empty folder"


def check_folder(root: Path, where: str, holding: str) -> None:
    """That a path is a folder.

    Raises:
        InputError: it is none.
    """
    if not root.is_dir():
        found = "a file" if root.exists() else "nothing there"
        raise InputError(
            f"[{where}] path must be an existing folder, got {root} ({found}); give the folder that holds {holding}"
        )
