"""Writing of scenes as NeRF-synthetic folders, which :func:`nerf_metal.data.load_scene` and other programs read."""

import json
import math
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nerf_metal.data.cameras import Intrinsics
from nerf_metal.data.readers.blender import IMAGE_SUFFIXES
from nerf_metal.data.scene import Scene, Split
from nerf_metal.util.errors import InputError

VAL_VIEWS = 4  # test views that stand in for val in a scene without val: some programs demand the file


def write_scene(scene: Scene, directory: str | os.PathLike[str], overwrite: bool = False) -> None:
    """Write a scene as a NeRF-synthetic folder.

    The images can be read back bit for bit, the poses and intrinsics with the precision of float32. A scene without a
    val split gets a ``transforms_val.json`` that names a few of its test images. Everything is written beside the
    folder first and then renamed, so that the folder appears complete or not at all.

    Args:
        scene: the scene. The format can hold only cameras with square pixels, a centred principal point and no
            distortion.
        directory: the folder to make.
        overwrite: replace `directory` if it is a scene. Any other folder is never replaced.

    Raises:
        InputError: `directory` is not empty and `overwrite` is False, or it cannot be written, or the format cannot
            hold the cameras or the names of the scene.
    """
    target = Path(os.path.abspath(directory))
    if target.exists() and not target.is_dir():
        raise InputError(f"[write_scene] directory must be a folder, got the file {target}; choose another name")
    _check_writable(scene)
    try:
        if target.is_dir() and any(target.iterdir()) and not overwrite:
            raise InputError(
                f"[write_scene] directory must be new or empty, got {target} with files in it; "
                "choose another name or pass overwrite"
            )
        if overwrite and target.is_dir() and any(target.iterdir()) and not _is_scene(target):
            raise InputError(
                f"[write_scene] directory must be a scene to be overwritten, got {target} without "
                "transforms_train.json; choose another name, or delete the folder yourself"
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as beside:
            fresh, old = Path(beside) / "fresh", Path(beside) / "old"
            fresh.mkdir()
            _write_files(scene, fresh)
            # Without `overwrite`, the rename fails if the folder has been filled in the meantime.
            if overwrite and target.exists():
                target.rename(old)
            try:
                fresh.rename(target)
            except BaseException:  # also after an interrupt: the old folder must not be lost
                if old.exists():
                    old.rename(target)
                raise
    except OSError as error:
        raise InputError(
            f"[write_scene] directory must be writable, got {target} ({error.strerror or error}); "
            "choose another place or free some space"
        ) from None


def _is_scene(folder: Path) -> bool:
    """Return whether a folder is a NeRF-synthetic scene."""
    return (folder / "transforms_train.json").is_file()


def _check_writable(scene: Scene) -> None:
    """Check that the format can hold the names and cameras of a scene."""
    seen: dict[str, Tensor] = {}
    entries = [(name, split.image(i)) for split in scene.splits.values() for i, name in enumerate(split.names)]
    for name, image in entries:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.name or name.lower().endswith(IMAGE_SUFFIXES):
            raise InputError(
                "[write_scene] image names must be paths inside the scene without extension, "
                f"got {name!r}; rename the image"
            )
        # One image may be in two splits, as val is here. File names on a Mac do not differ by case.
        key = str(path).casefold()
        if key in seen and not torch.equal(seen[key], image):
            raise InputError(
                "[write_scene] image names must be unique in the scene, upper and lower case taken as equal, "
                f"got {name!r} for two different images; rename one"
            )
        seen[key] = image
    for split in scene.splits.values():
        k = split.intrinsics
        if not isinstance(k, Intrinsics) or not isinstance(split.images, Tensor) or k.distorted:
            raise InputError(
                f"[write_scene] images of {split.name!r} must have one camera without distortion, got photographs; "
                "the format can hold nothing else"
            )
        if not np.allclose((k.fl_y, k.cx, k.cy), (k.fl_x, 0.5 * k.width, 0.5 * k.height), rtol=1e-6, atol=0.0):
            raise InputError(
                f"[write_scene] intrinsics of {split.name!r} must have fl_x = fl_y and a centred principal "
                f"point, got {k}; the format can hold nothing else: undistort and crop first"
            )


def _write_files(scene: Scene, folder: Path) -> None:
    """Write the images and JSON files of a scene."""
    for split in scene.splits.values():
        for index, name in enumerate(split.names):
            pixels = split.image(index).cpu().numpy()
            file = folder / f"{name}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels if split.has_alpha else np.ascontiguousarray(pixels[..., :3])).save(file)
        _write_transforms(folder / f"transforms_{split.name}.json", split, range(len(split.names)))
    test = scene.splits.get("test")
    if test is not None and "val" not in scene.splits:
        count = min(VAL_VIEWS, len(test.names))
        chosen = [i * len(test.names) // count for i in range(count)]
        _write_transforms(folder / "transforms_val.json", test, chosen)


def _write_transforms(file: Path, split: Split, chosen: Sequence[int]) -> None:
    """Write the JSON file of these views of a split."""
    k = split.camera(0)
    frames = [{"file_path": f"./{split.names[i]}", "transform_matrix": split.c2w[i].tolist()} for i in chosen]
    angle = 2.0 * math.atan(0.5 * k.width / k.fl_x)
    file.write_text(json.dumps({"camera_angle_x": angle, "frames": frames}, indent=1) + "\n", encoding="utf-8")
