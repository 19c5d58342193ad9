"""Captures of COLMAP: a sparse model beside a folder of photographs.

COLMAP's poses are world-to-camera with OpenCV's axes (right, down, forwards); its pixels are counted as ours are, the
centre of the first one at (0.5, 0.5).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nerf_metal.data.cameras import check_c2w
from nerf_metal.data.readers.capture import Array, Capture, Frame, find_image, frame_name, image_folders, in_order, some
from nerf_metal.data.readers.colmap_model import ImageEntry, model_suffix, read_model, rotation
from nerf_metal.util.errors import InputError

OPENCV_TO_OPENGL = np.diag([1.0, -1.0, -1.0])


def model_folder(root: Path) -> Path | None:
    """Where a model lies: ``sparse/0`` (or another number), ``sparse``, the same in ``colmap`` (nerfstudio's), or the
    folder itself."""
    for sparse in (root / "sparse", root / "colmap" / "sparse"):
        inside = sorted((f for f in sparse.iterdir() if f.is_dir()), key=lambda f: f.name) if sparse.is_dir() else []
        for folder in (*inside, sparse):
            if model_suffix(folder):
                return folder
    return root if model_suffix(root) else None


def read_colmap(root: Path) -> Capture:
    """Read a folder's model and find its photographs.

    Raises:
        InputError: anything that cannot be used; the message names the file and the image.
    """
    folder = model_folder(root)
    if folder is None:
        raise InputError(
            f"[load_scene] {root} must hold a COLMAP model (cameras and images, .bin or .txt) in sparse/0, sparse or "
            "itself, got none; export the model there"
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
    return Capture(root, "colmap", in_order(frames), points=model.points, notes=notes)


def _folder_of(root: Path, names: list[str], model: Path) -> Path:
    """The folder that has most of the named photographs: ``images`` and its smaller copies, where gaussian splatting
    keeps them, or the scene's folder itself."""
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
    if not np.isfinite((*image.quaternion, *image.shift)).all():
        raise InputError(f"[{where}] pose must be finite, got NaN or infinity; export the model again")
    w2c = rotation(image.quaternion, where)
    c2w = np.eye(4)
    c2w[:3, :3] = w2c.T @ OPENCV_TO_OPENGL
    c2w[:3, 3] = -w2c.T @ np.array(image.shift)
    check_c2w(c2w, where)
    return c2w
