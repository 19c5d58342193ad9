"""LLFF captures (Mildenhall et al. 2019): ``poses_bounds.npy`` beside a folder of photographs.

Each row of the file belongs to one photograph, in the order of the photographs' names. It holds a 3 x 5 matrix, row by
row, and the nearest and the farthest depth of what the photograph shows. The first four columns of the matrix are a
camera-to-world matrix with the axes down, right and back. The fifth column is height, width and focal length in pixels
of the full-size photographs, also where the folder holds smaller copies.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nerf_metal.data.cameras import Intrinsics, check_c2w
from nerf_metal.data.readers.capture import Capture, Frame, check_camera, frame_name, image_folders, in_order
from nerf_metal.data.readers.files import IMAGE_SUFFIXES
from nerf_metal.data.readers.reader import Reader
from nerf_metal.util.errors import InputError
from nerf_metal.util.geometry import Array

FILE = "poses_bounds.npy"


def read_llff(root: Path) -> Capture:
    """Read the ``poses_bounds.npy`` of a folder.

    Args:
        root: the folder.

    Returns:
        The capture, with depth bounds.

    Raises:
        InputError: a file cannot be used; the message names the row and the photograph.
    """
    file = root / FILE
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
            f"got {len(photos)}; rows belong to photographs in the order of their names: restore or remove photographs"
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
    return Capture(root, in_order(frames), bounds=_bounds(rows, file))


def _rows(file: Path) -> Array:
    """Read the rows of the file, float64 ``[N, 17]``."""
    try:
        rows = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(
            f"[load_scene] {file} must be a NumPy array, got a file that NumPy cannot read ({error}); export it again"
        ) from None
    if not isinstance(rows, np.ndarray) or rows.ndim != 2 or rows.shape[1] != 17 or rows.dtype.kind not in "fiu":
        got = f"{rows.dtype} {rows.shape}" if isinstance(rows, np.ndarray) else "an archive"
        raise InputError(f"[load_scene] {file} must hold rows of 17 numbers, got {got}; export it again")
    return rows.astype(np.float64)


def _bounds(rows: Array, file: Path) -> tuple[float, float] | None:
    """Return the least near bound and the greatest far bound of all rows; None without rows."""
    if not len(rows):
        return None
    near, far = float(rows[:, 15].min()), float(rows[:, 16].max())
    if not (np.isfinite(rows[:, 15:]).all() and 0.0 < near < far):
        raise InputError(
            f"[load_scene] {file} must have bounds with 0 < near < far in its last two columns, "
            f"got {near:.4g} and {far:.4g}; export it again"
        )
    return near, far


READER = Reader(
    name="llff",
    mark=f"{FILE} (LLFF)",
    detect=lambda root: (root / FILE).is_file(),
    read=read_llff,
)
