"""Loading a scene from a folder: detect the format, read it, split it, place it and open its images.

The table `READERS` lists the formats. To add one, write a file in :mod:`nerf_metal.data.readers` and add its reader to
the table; :mod:`nerf_metal.data.readers.reader` describes what a reader gets and returns.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path

import torch

from nerf_metal.data.normalise import place
from nerf_metal.data.photos import Photos, PhotoSource, open_photos, photo_size
from nerf_metal.data.readers import blender, colmap, llff, transforms
from nerf_metal.data.readers.capture import Capture, Frame, find_image, image_folders
from nerf_metal.data.readers.files import check_folder, listing
from nerf_metal.data.readers.reader import Reader, SceneReader
from nerf_metal.data.scene import Scene, Split
from nerf_metal.util.errors import InputError
from nerf_metal.util.splits import SPLITS

READERS: dict[str, Reader | SceneReader] = {
    reader.name: reader
    for reader in (
        # A folder may hold several formats. The first one here is read: what people or training tools wrote goes
        # before what those tools started from.
        blender.READER,
        transforms.READER,
        colmap.READER,
        llff.READER,
    )
}
"""The formats by name, one line for each."""
LONGEST_SIDE = 1600  # as in nerfstudio: a hash grid that trains for minutes has no detail for more pixels


def found_formats(root: Path) -> list[str]:
    """List the formats that a folder holds, in the order of `READERS`."""
    return [name for name, reader in READERS.items() if reader.detect(root)]


def detect_format(root: Path) -> str:
    """Return the name of the format to read from a folder.

    Raises:
        InputError: the folder does not exist or holds no known format; the message lists the formats.
    """
    looked_for = ", ".join(reader.mark for reader in READERS.values())
    check_folder(root, "load_scene", f"one of {looked_for}")
    found = found_formats(root)
    if not found:
        raise InputError(
            f"[load_scene] {root} must hold one of {looked_for}, got {listing(root)}; give the folder of the scene"
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
    """Load a scene from a folder.

    Args:
        path: the folder.
        format: name of the format, a key of `READERS`. ``"auto"`` takes the first format that the folder holds.
        splits: the splits to load, some of train, val and test. A capture without its own lists has train and test;
            its val is its test.
        downscale: whole factor that reduces the images. None keeps the size of NeRF-synthetic images, and reduces
            photographs by the least factor that leaves at most `LONGEST_SIDE` pixels along the longer side.
        hold_out: hold out every N-th photograph for testing, starting with the first, where the capture has no lists
            of its own.
        orient: turn a capture upright.
        scene_scale: factor that enlarges a capture within its boxes.
        cascades: number of cascades of a capture; None chooses it (:func:`nerf_metal.data.normalise.place`).
        max_image_bytes: photographs that take more memory than this, in bytes, are kept in a scratch file.

    Returns:
        The scene.

    Raises:
        InputError: an argument, a file or an image cannot be used.
    """
    root = Path(path)
    chosen = detect_format(root) if format == "auto" else format
    if chosen not in READERS:
        raise InputError(f"[load_scene] --format must be one of auto, {', '.join(READERS)}, got {format}; choose one")
    reader = READERS[chosen]
    notes = []
    others = [name for name in found_formats(root) if name != chosen] if root.is_dir() else []
    if others and format == "auto":
        also = " and ".join(f"{READERS[name].mark}, which --format {name} would read," for name in others)
        notes.append(f"read {reader.mark}; there is also {also}".rstrip(","))
    if isinstance(reader, SceneReader):
        scene = reader.load(root, splits=splits, downscale=downscale or 1)
        return dataclasses.replace(scene, notes=notes + scene.notes, format=chosen)
    check_folder(root, "load_scene", reader.mark)
    capture = reader.read(root)
    notes += capture.notes
    indices = _split_indices(capture, splits, hold_out)
    frames, downscale = _reduced(root, capture.frames, downscale, notes)
    photos = {
        name: _open([frames[i] for i in chosen_ones], downscale, max_image_bytes * len(chosen_ones) // len(frames))
        for name, chosen_ones in indices.items()
    }
    if cascades is None and any(opened.has_alpha for opened in photos.values()):
        cascades = 1
        notes.append("photographs have alpha: the box holds the whole scene; --cascades 5 makes room for a background")
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
    """Return the indices of the frames of each split."""
    known = capture.splits
    count = len(capture.frames)
    if known is None:
        known = {"test": list(range(0, count, hold_out)), "train": [i for i in range(count) if i % hold_out]}
    indices: dict[str, list[int]] = {}
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
    """Return the frames with cameras of the sizes of their files, and the factor that reduces these files.

    LLFF and nerfstudio write smaller copies of all photographs beside them. Copies that are smaller by `downscale`, or
    by a divisor of it, are taken: they decode faster.
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
    """List the folders of smaller copies, smallest images first: the factor, and the frames with these files."""
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
    """Return the frame with its camera at the size of its file.

    The file may be smaller than the camera states by a whole factor. Programs that write such copies round their sizes
    up or down.
    """
    camera, size = frame.camera, photo_size(frame.image)
    for width, height in (size, size[::-1]):  # EXIF may turn the photograph
        factor = round(camera.width / width)
        off = max(abs(camera.width - factor * width), abs(camera.height - factor * height))
        if (factor == 1 and off == 0) or (factor > 1 and off < factor):
            return frame._replace(camera=camera.stretched(width, height))
    raise InputError(
        f"[load_scene] {frame.image} must have the size of its camera, {camera.width}x{camera.height}, or that divided "
        f"by a whole number, got {size[0]}x{size[1]}; restore the photograph that the cameras were found from"
    )


def _open(frames: Sequence[Frame], downscale: int, max_bytes: int) -> Photos:
    """Open the photographs of a split."""
    sources = [PhotoSource(f.image, (f.camera.width, f.camera.height), f.mask) for f in frames]
    return open_photos(sources, downscale=downscale, max_bytes=max_bytes)
