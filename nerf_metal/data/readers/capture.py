"""A capture: photographs with their cameras, as a reader finds them, before any image is decoded."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nerf_metal.data.cameras import Intrinsics
from nerf_metal.data.readers.files import IMAGE_SUFFIXES
from nerf_metal.util.errors import InputError
from nerf_metal.util.geometry import Array


class Frame(NamedTuple):
    """One photograph with its camera.

    Attributes:
        name: path of the image relative to the capture, without extension. Frames are sorted by it.
        image: the image file.
        camera: the intrinsics at the size that the capture declares. The file may be smaller by a whole factor.
        c2w: camera-to-world matrix, float64 ``[4, 4]``, OpenGL axes, in the coordinates of the capture.
        mask: an image file that is black where pixels are left out of the training, or None.
    """

    name: str
    image: Path
    camera: Intrinsics
    c2w: Array
    mask: Path | None = None


@dataclass(frozen=True, eq=False)
class Capture:
    """A folder of posed photographs, as its files declare them.

    Attributes:
        source: the folder.
        frames: the photographs, sorted by name (:func:`in_order`).
        splits: indices of the frames of train, val and test; None where the capture has no lists of its own.
        points: points on surfaces in the coordinates of the capture, float64 ``[P, 3]``, or None.
        bounds: least and greatest depth of what is seen, along the optical axes, in capture units, or None.
        aabb_scale: size of the scene in boxes, as instant-ngp states it, or None.
        notes: sentences for the user about what was left out or assumed.

    Raises:
        InputError: there is no frame, or two frames have the same name.
    """

    source: Path
    frames: Sequence[Frame]
    splits: dict[str, list[int]] | None = None
    points: Array | None = None
    bounds: tuple[float, float] | None = None
    aabb_scale: float | None = None
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Check that there are frames, and that their names differ."""
        if not self.frames:
            raise InputError(
                f"[load_scene] {self.source} must hold at least one posed photograph, got none; "
                "export the cameras again"
            )
        for before, after in zip(self.frames, self.frames[1:], strict=False):
            if before.name == after.name:
                raise InputError(
                    f"[load_scene] {self.source} must name each photograph once, got {after.name} twice; "
                    "remove one of the two frames"
                )

    @property
    def poses(self) -> Array:
        """Camera-to-world matrices of all frames, float64 ``[N, 4, 4]``."""
        return np.stack([frame.c2w for frame in self.frames])


def in_order(frames: Sequence[Frame]) -> list[Frame]:
    """Sort frames by name. ``--hold-out`` counts in this order."""
    return sorted(frames, key=lambda frame: frame.name)


def frame_name(path: str) -> str:
    """Return the name of a frame: the path of its file as the capture states it, relative and without extension.

    The name has forward slashes only. ``..`` and drive letters are removed, because results are written under these
    names.

    Args:
        path: the path in the capture's file; backslashes count as slashes.
    """
    parts = [part for part in re.split(r"[/\\]+", path) if part not in ("", ".", "..") and not part.endswith(":")]
    stem, dot, suffix = parts[-1].rpartition(".") if parts else ("", "", "")
    if dot and stem and f".{suffix.lower()}" in IMAGE_SUFFIXES:
        parts[-1] = stem
    return "/".join(parts)


def find_image(path: Path) -> Path | None:
    """Return the image file at a path that may lack its extension, or None if there is no such file."""
    if path.is_file():
        return path
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return None
    names = (path.with_name(path.name + suffix) for low in IMAGE_SUFFIXES for suffix in (low, low.upper()))
    return next((name for name in names if name.is_file()), None)


def check_camera(camera: Intrinsics, where: str) -> Intrinsics:
    """Check the intrinsics of a frame.

    Args:
        camera: the intrinsics to check.
        where: start of the message without brackets: ``load_scene: FILE frame 3``.

    Returns:
        The same intrinsics.

    Raises:
        InputError: a number is not finite, or a focal length or a side of the image is not positive.
    """
    for name, value in dataclasses.asdict(camera).items():
        if not math.isfinite(value):
            raise InputError(f"[{where}] {name} must be finite, got {value}; calibrate or export the cameras again")
        if name in ("fl_x", "fl_y", "width", "height") and value <= 0:
            raise InputError(f"[{where}] {name} must be more than 0, got {value}; give it in pixels")
    return camera


def image_folders(root: Path) -> list[Path]:
    """Return the folders of photographs that exist, largest images first: ``images``, then ``images_N`` with copies
    that are N times smaller."""
    smaller = sorted(
        (int(match[1]), folder)
        for folder in root.iterdir()
        if (match := re.fullmatch(r"images_(\d+)", folder.name)) and folder.is_dir()
    )
    return [folder for folder in [root / "images", *(folder for _, folder in smaller)] if folder.is_dir()]


def some(names: Sequence[str], most: int = 4) -> str:
    """Join the first `most` names for a message, and say how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
