"""What the readers of photograph captures give: cameras and files, before any picture is decoded."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nerf_metal.data.cameras import Intrinsics
from nerf_metal.data.readers.files import IMAGE_SUFFIXES
from nerf_metal.util.errors import InputError

Array = NDArray[np.float64]
FORWARD_FACING_DEGREES = 30.0
"""Cameras that look the same way up to this: LLFF's captures stay below 15, a walk round a thing's front half passes
45."""


class Frame(NamedTuple):
    """A photograph.

    Attributes:
        name: its path without extension, by which frames are sorted.
        image: its file.
        camera: at the size that the capture declares; the file may be smaller by a whole factor.
        c2w: float64 ``[4, 4]``, OpenGL axes, the capture's coordinates.
        mask: a file that says which pixels count, or None.
    """

    name: str
    image: Path
    camera: Intrinsics
    c2w: Array
    mask: Path | None = None


@dataclass(frozen=True, eq=False)
class Capture:
    """Photographs with their cameras, as a folder declares them.

    Attributes:
        source: the folder.
        format: ``"transforms"``, ``"llff"`` or ``"colmap"``.
        frames: sorted by name.
        splits: indices of the frames of train, val and test, where the capture says so itself.
        points: float64 ``[P, 3]``, points on surfaces, where there are some.
        bounds: least and greatest depth of what is seen, along the cameras' axes, where the capture says so.
        aabb_scale: instant-ngp's size of the scene, in boxes.
        notes: sentences for the person.

    Raises:
        InputError: no frames, or two of one name.
    """

    source: Path
    format: str
    frames: Sequence[Frame]
    splits: dict[str, list[int]] | None = None
    points: Array | None = None
    bounds: tuple[float, float] | None = None
    aabb_scale: float | None = None
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Check the frames."""
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
        """Of all frames, ``[N, 4, 4]``."""
        return np.stack([frame.c2w for frame in self.frames])

    @property
    def forward_facing(self) -> bool:
        """Whether all cameras look about the same way."""
        gaze = -self.poses[:, :3, 2]
        mean = gaze.mean(0)
        norm = float(np.linalg.norm(mean))
        return norm > 0 and bool((gaze @ (mean / norm) > math.cos(math.radians(FORWARD_FACING_DEGREES))).all())


def in_order(frames: Sequence[Frame]) -> list[Frame]:
    """By name: the order that hold-outs count in."""
    return sorted(frames, key=lambda frame: frame.name)


def frame_name(path: str) -> str:
    """A frame's name from its file's path as the capture has it: relative, without extension, of plain slashes.

    Steps out of the folder are left out, because results are written under these names.
    """
    parts = [part for part in re.split(r"[/\\]+", path) if part not in ("", ".", "..") and not part.endswith(":")]
    stem, dot, suffix = parts[-1].rpartition(".") if parts else ("", "", "")
    if dot and stem and f".{suffix.lower()}" in IMAGE_SUFFIXES:
        parts[-1] = stem
    return "/".join(parts)


def find_image(path: Path) -> Path | None:
    """The file at a path that may lack its extension, or None."""
    if path.is_file():
        return path
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return None
    names = (path.with_name(path.name + suffix) for low in IMAGE_SUFFIXES for suffix in (low, low.upper()))
    return next((name for name in names if name.is_file()), None)


def check_camera(camera: Intrinsics, where: str) -> Intrinsics:
    """The camera, if it can be one.

    Raises:
        InputError: a number that is not finite, no focal length, or no size.
    """
    for name, value in dataclasses.asdict(camera).items():
        if not math.isfinite(value):
            raise InputError(f"[{where}] {name} must be finite, got {value}; calibrate or export the cameras again")
        if name in ("fl_x", "fl_y", "width", "height") and value <= 0:
            raise InputError(f"[{where}] {name} must be more than 0, got {value}; give it in pixels")
    return camera


def image_folders(root: Path) -> list[Path]:
    """Folders that captures keep photographs in, those of the largest ones first: ``images``, then ``images_N`` of
    copies that are N times smaller."""
    smaller = sorted(
        (int(match[1]), folder)
        for folder in root.iterdir()
        if (match := re.fullmatch(r"images_(\d+)", folder.name)) and folder.is_dir()
    )
    return [folder for folder in [root / "images", *(folder for _, folder in smaller)] if folder.is_dir()]


def some(names: Sequence[str], most: int = 4) -> str:
    """A few of many names, for a message."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
