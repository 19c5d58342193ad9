"""A scene from any folder that has one: finds the format, reads it, places it and opens its pictures."""

from __future__ import annotations

import dataclasses
import math
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from nerf_metal.data.normalise import place
from nerf_metal.data.photos import Photos, PhotoSource, open_photos, photo_size
from nerf_metal.data.readers.blender import load_blender
from nerf_metal.data.readers.capture import Capture, Frame, find_image, image_folders
from nerf_metal.data.readers.colmap import model_folder, read_colmap
from nerf_metal.data.readers.files import check_folder, listing
from nerf_metal.data.readers.llff import read_llff
from nerf_metal.data.readers.transforms import read_transforms
from nerf_metal.data.scene import Scene, Split
from nerf_metal.util.errors import InputError
from nerf_metal.util.splits import SPLITS

READERS: dict[str, Callable[[Path], Capture]] = {
    "transforms": read_transforms,
    "colmap": read_colmap,
    "llff": read_llff,
}
LONGEST_SIDE = 1600  # nerfstudio's: more pixels than a hash grid of minutes has detail for
MARKS = {
    "blender": "transforms_train.json (NeRF-synthetic)",
    "transforms": "transforms.json (instant-ngp, nerfstudio)",
    "colmap": "sparse/0 (COLMAP)",
    "llff": "poses_bounds.npy (LLFF)",
}
"""What each format is known by, the first one first where a folder has several: those that people write by hand or by a
tool for training go before those that the tool started from."""


def found_formats(root: Path) -> list[str]:
    """The formats that a folder has, the one to be read first."""
    has = {
        "blender": any((root / f"transforms_{split}.json").is_file() for split in SPLITS),
        "transforms": (root / "transforms.json").is_file(),
        "colmap": model_folder(root) is not None,
        "llff": (root / "poses_bounds.npy").is_file(),
    }
    return [name for name in MARKS if has[name]]


def detect_format(root: Path) -> str:
    """The format of a folder.

    Raises:
        InputError: it has none; the message lists what was looked for.
    """
    looked_for = ", ".join(MARKS.values())
    check_folder(root, "load_scene", f"one of {looked_for}")
    found = found_formats(root)
    if not found:
        raise InputError(
            f"[load_scene] {root} must hold one of {looked_for}, got {listing(root)}; give the scene's folder"
        )
    return found[0]


def load_scene(
    path: str | os.PathLike[str],
    *,
    format: str = "auto",
    splits: Sequence[str] = ("train", "test"),
    downscale: int | None = None,
    hold_out: int = 8,
    orient: bool = True,
    scene_scale: float = 1.0,
    cascades: int | None = None,
    max_image_bytes: int = 2_000_000_000,
) -> Scene:
    """Load a scene.

    Args:
        path: the folder.
        format: ``"auto"`` or a key of `MARKS`.
        splits: which of train, val and test to load. A capture that has no lists of its own has train and test, which
            is also its val.
        downscale: reduce images by this whole factor. None: NeRF-synthetic ones not at all, photographs by the least
            one that leaves at most `LONGEST_SIDE` pixels.
        hold_out: every so many-th photograph, beginning with the first, is for testing.
        orient: turn a capture upright.
        scene_scale: enlarge a capture within its boxes.
        cascades: boxes of a capture; None: what it needs.
        max_image_bytes: photographs that take more stay on disk.

    Raises:
        InputError: anything in the arguments, the files or the images that cannot be used.
    """
    root = Path(path)
    chosen = detect_format(root) if format == "auto" else format
    if chosen not in MARKS:
        raise InputError(f"[load_scene] --format must be one of auto, {', '.join(MARKS)}, got {format}; choose one")
    notes = []
    others = [name for name in found_formats(root) if name != chosen] if root.is_dir() else []
    if others and format == "auto":
        also = " and ".join(f"{MARKS[name]}, which --format {name} would read," for name in others)
        notes.append(f"read {MARKS[chosen]}; there is also {also}".rstrip(","))
    if chosen == "blender":
        scene = load_blender(root, splits=splits, downscale=downscale or 1)
        return dataclasses.replace(scene, notes=notes + scene.notes)
    check_folder(root, "load_scene", MARKS[chosen])
    capture = READERS[chosen](root)
    notes += capture.notes
    indices = _split_indices(capture, splits, hold_out)
    frames, downscale = _reduced(root, capture.frames, downscale, notes)
    photos = {
        name: _open([frames[i] for i in chosen_ones], downscale, max_image_bytes * len(chosen_ones) // len(frames))
        for name, chosen_ones in indices.items()
    }
    if cascades is None and any(opened.has_alpha for opened in photos.values()):
        cascades = 1
        notes.append("photographs have alpha: nothing is behind the box; --cascades 5 makes room for a background")
    placement = place(capture, orient, scene_scale, cascades)
    c2w = torch.from_numpy(placement.poses(capture.poses)).to(torch.float32)
    loaded = {
        name: Split(
            name=name,
            images=opened,
            c2w=c2w[indices[name]],
            intrinsics=[frames[i].camera.reduced(downscale) for i in indices[name]],
            names=[frames[i].name for i in indices[name]],
            has_alpha=opened.has_alpha,
        )
        for name, opened in photos.items()
    }
    notes += placement.notes + [note for opened in photos.values() for note in opened.notes]
    return Scene(
        name=root.resolve().name,
        source=str(root),
        splits=loaded,
        aabb=torch.from_numpy(placement.aabb).to(torch.float32),
        near=placement.near,
        far=placement.far,
        notes=notes,
        capture_to_scene=torch.from_numpy(placement.capture_to_scene),
        cascades=placement.cascades,
        format=chosen,
        points=None if capture.points is None else torch.from_numpy(placement.positions(capture.points)).float(),
    )


def _split_indices(capture: Capture, splits: Sequence[str], hold_out: int) -> dict[str, list[int]]:
    known = capture.splits
    count = len(capture.frames)
    if known is None:
        known = {"test": list(range(0, count, hold_out)), "train": [i for i in range(count) if i % hold_out]}
    indices = {}
    for name in splits:
        if name not in SPLITS:
            raise InputError(f"[load_scene] splits must name some of {', '.join(SPLITS)}, got {name!r}; correct it")
        instead = {"val": "test", "test": "val"}.get(name, name)
        indices[name] = known.get(name, known.get(instead, []))
        if not indices[name]:
            raise InputError(
                f"[load_scene] {capture.source} must have photographs for {name}, got none of {count}; "
                "add photographs, or correct the lists of train and test files"
            )
    return indices


def _reduced(root: Path, frames: Sequence[Frame], downscale: int | None, notes: list[str]) -> tuple[list[Frame], int]:
    """The frames with cameras of their files' sizes, and the factor to reduce these files by.

    Where copies of all photographs that are smaller by that factor, or a divisor of it, lie beside them, as LLFF and
    nerfstudio write them, these are taken: they decode faster.
    """
    sized = [_at_file_size(frame) for frame in frames]
    if downscale is None:
        longest = max(max(frame.camera.width, frame.camera.height) for frame in sized)
        downscale = math.ceil(longest / LONGEST_SIDE)
        if downscale > 1:
            notes.append(f"photographs are reduced by {downscale}: --downscale 1 keeps their {longest} pixels")
    for factor, copies in _smaller_copies(root, frames):
        if downscale % factor == 0:
            return [_at_file_size(frame) for frame in copies], downscale // factor
    return sized, downscale


def _smaller_copies(root: Path, frames: Sequence[Frame]) -> list[tuple[int, list[Frame]]]:
    """Folders of smaller copies, the smallest first: their factor, and the frames with these files."""
    folders = {folder: int((re.findall(r"_(\d+)$", folder.name) or [1])[0]) for folder in image_folders(root)}
    now = [folder for folder in folders if all(frame.image.is_relative_to(folder) for frame in frames)]
    if not now or any(frame.mask for frame in frames):
        return []
    found = []
    for folder, number in reversed(folders.items()):
        factor, rest = divmod(number, folders[now[0]] or 1)
        places = [folder / frame.image.relative_to(now[0]) for frame in frames]
        files = [find_image(place) or find_image(place.with_suffix("")) for place in places]
        if factor > 1 and not rest and all(files):
            found.append((factor, [f._replace(image=file) for f, file in zip(frames, files, strict=True) if file]))
    return found


def _at_file_size(frame: Frame) -> Frame:
    """The frame with the camera of its file, which may be smaller by a whole factor than the camera declares; the sizes
    of such copies were rounded either way."""
    camera, size = frame.camera, photo_size(frame.image)
    for width, height in (size, size[::-1]):  # which of the two a rotated photograph has, its EXIF entry decides
        factor = round(camera.width / width)
        off = max(abs(camera.width - factor * width), abs(camera.height - factor * height))
        if (factor == 1 and off == 0) or (factor > 1 and off < factor):
            return frame._replace(camera=camera.stretched(width, height))
    raise InputError(
        f"[load_scene] {frame.image} must have the size of its camera, {camera.width}x{camera.height}, or that divided "
        f"by a whole number, got {size[0]}x{size[1]}; restore the photograph that the cameras were found from"
    )


def _open(frames: Sequence[Frame], downscale: int, max_bytes: int) -> Photos:
    sources = [PhotoSource(f.image, (f.camera.width, f.camera.height), f.mask) for f in frames]
    return open_photos(sources, downscale=downscale, max_bytes=max_bytes)
