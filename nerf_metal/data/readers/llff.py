"""LLFF captures (Mildenhall et al. 2019): ``poses_bounds.npy`` beside a folder of photographs.

A row of the file belongs to a photograph, in the order of their names: a 3 x 5 matrix, row by row, and the nearest and
the farthest depth of what it sees. The matrix is camera-to-world with the axes down, right and back, and a column of
height, width and focal length of the full-size photographs, even where the folder holds smaller ones.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nerf_metal.data.cameras import Intrinsics, check_c2w
from nerf_metal.data.readers.capture import Array, Capture, Frame, check_camera, frame_name, image_folders, in_order
from nerf_metal.data.readers.files import IMAGE_SUFFIXES
from nerf_metal.util.errors import InputError


def read_llff(root: Path) -> Capture:
    """Read a folder's ``poses_bounds.npy``.

    Raises:
        InputError: anything that cannot be used; the message names the photograph.
    """
    file = root / "poses_bounds.npy"
    rows = _rows(file)
    folders = image_folders(root)
    if not folders:
        raise InputError(
            f"[load_scene] {root} must have a folder images or images_8 (or another number) for poses_bounds.npy, "
            "got neither; copy the photographs there"
        )
    folder = folders[0]
    photos = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    if len(photos) != len(rows):
        raise InputError(
            f"[load_scene] {folder} must hold {len(rows)} photographs as poses_bounds.npy has rows, "
            f"got {len(photos)}; rows belong to photographs in the order of their names: restore or remove some"
        )
    frames = []
    for i, (photo, row) in enumerate(zip(photos, rows, strict=True)):
        where = f"load_scene: {file} row {i}, {photo.name}"
        down, right, back, position, (height, width, focal) = row[:15].reshape(3, 5).T
        focal = float(focal)
        c2w = np.eye(4)
        c2w[:3] = np.stack((right, -down, back, position), -1)
        check_c2w(c2w, where)
        if not (np.isfinite((height, width)).all() and height == round(height) and width == round(width)):
            raise InputError(
                f"[{where}] height and width must be whole numbers, got {height}x{width}; export the poses again"
            )
        camera = Intrinsics(focal, focal, 0.5 * float(width), 0.5 * float(height), int(width), int(height))
        frames.append(Frame(frame_name(f"{folder.name}/{photo.name}"), photo, check_camera(camera, where), c2w))
    return Capture(root, "llff", in_order(frames), bounds=_bounds(rows, file))


def _rows(file: Path) -> Array:
    try:
        rows = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(
            f"[load_scene] {file} must be a NumPy array, got a file that does not read ({error}); export it again"
        ) from None
    if not isinstance(rows, np.ndarray) or rows.ndim != 2 or rows.shape[1] != 17 or rows.dtype.kind not in "fiu":
        got = f"{rows.dtype} {rows.shape}" if isinstance(rows, np.ndarray) else "an archive"
        raise InputError(f"[load_scene] {file} must hold rows of 17 numbers, got {got}; export it again")
    return rows.astype(np.float64)


def _bounds(rows: Array, file: Path) -> tuple[float, float] | None:
    if not len(rows):
        return None
    near, far = float(rows[:, 15].min()), float(rows[:, 16].max())
    if not (np.isfinite(rows[:, 15:]).all() and 0.0 < near < far):
        raise InputError(
            f"[load_scene] {file} must have bounds with 0 < near < far in its last two columns, "
            f"got {near:.4g} and {far:.4g}; export it again"
        )
    return near, far
