"""COLMAP captures: a sparse model beside a folder of photographs.

COLMAP's poses are world-to-camera with OpenCV axes (right, down, forward). Its pixels are counted as in
:mod:`nerf_metal.data.cameras`: the centre of the first pixel is at (0.5, 0.5).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nerf_metal.data.cameras import check_c2w
from nerf_metal.data.readers.capture import Capture, Frame, find_image, frame_name, image_folders, in_order, some
from nerf_metal.data.readers.colmap_model import ImageEntry, model_suffix, read_model, rotation
from nerf_metal.data.readers.reader import Reader
from nerf_metal.util.errors import InputError
from nerf_metal.util.geometry import Array

OPENCV_TO_OPENGL = np.diag([1.0, -1.0, -1.0])


def model_folder(root: Path) -> Path | None:
    """Find the sparse model of a capture.

    The places are ``sparse/0`` (or another number), ``sparse``, both in ``colmap`` (as nerfstudio writes them), and
    the folder itself.

    Args:
        root: the folder of the capture.

    Returns:
        The folder of the model, or None if there is none.
    """
    for sparse in (root / "sparse", root / "colmap" / "sparse"):
        inside = sorted((f for f in sparse.iterdir() if f.is_dir()), key=lambda f: f.name) if sparse.is_dir() else []
        for folder in (*inside, sparse):
            if model_suffix(folder):
                return folder
    return root if model_suffix(root) else None


def read_colmap(root: Path) -> Capture:
    """Read the sparse model of a folder and find its photographs.

    Args:
        root: the folder of the capture.

    Returns:
        The capture, with the points of the model.

    Raises:
        InputError: a file cannot be used; the message names the file and the image.
    """
    folder = model_folder(root)
    if folder is None:
        raise InputError(
            f"[load_scene] {root} must hold a COLMAP model (cameras and images, .bin or .txt) in sparse/0, sparse or "
            "the folder itself, got none; export the model there"
        )
    model = read_model(folder)
    photos = _folder_of(root, [image.name for image in model.images], folder)
    frames = []
    for image in model.images:
        path = find_image(photos / image.name)
        if path is None:
            raise InputError(
                f"[load_scene] {photos} must hold the photographs of {folder}, got no {image.name}; copy it there"
            )
        name = frame_name(str(path.relative_to(root)) if path.is_relative_to(root) else image.name)
        camera = model.cameras[image.camera]
        frames.append(Frame(name, path, camera, _c2w(image, f"load_scene: {folder} image {image.name}")))
    notes = []
    models = [f.name for f in sorted(folder.parent.iterdir()) if model_suffix(f)]
    if folder != root and len(models) > 1:
        notes.append(f"{folder.parent.name} holds {len(models)} models ({some(models)}): {folder.name} is read")
    return Capture(root, in_order(frames), points=model.points, notes=notes)


def _folder_of(root: Path, names: list[str], model: Path) -> Path:
    """Return the folder that has most of the named photographs.

    The places are ``images`` and its smaller copies, ``input`` (Gaussian splatting), and the folder itself. If the
    folder is the model itself, ``images`` of the two folders above it count too.
    """
    places = [*image_folders(root), root / "input", root]
    if model == root:
        places += [root.parent.parent / "images", root.parent / "images"]
    found = [sum(find_image(place / name) is not None for name in names) for place in places]
    if names and not any(found):
        raise InputError(
            f"[load_scene] {root} must hold the photographs of the model in images, "
            f"got none of {some(names)}; copy them there"
        )
    return places[found.index(max(found))]


def _c2w(image: ImageEntry, where: str) -> Array:
    """Return the camera-to-world matrix of an image with OpenGL axes, float64 ``[4, 4]``."""
    if not np.isfinite((*image.quaternion, *image.shift)).all():
        raise InputError(f"[{where}] pose must be finite, got NaN or infinity; export the model again")
    w2c = rotation(image.quaternion, where)
    c2w = np.eye(4)
    c2w[:3, :3] = w2c.T @ OPENCV_TO_OPENGL
    c2w[:3, 3] = -w2c.T @ np.array(image.shift)
    check_c2w(c2w, where)
    return c2w


READER = Reader(
    name="colmap",
    mark="sparse/0 (COLMAP)",
    detect=lambda root: model_folder(root) is not None,
    read=read_colmap,
)
