"""NeRF-synthetic folders (the Blender format of Mildenhall et al. 2020).

A folder holds ``transforms_<split>.json`` for each split: ``camera_angle_x`` (the full horizontal angle of
view in radians, the only intrinsic) and ``frames``, each with ``file_path`` (usually without extension) and
``transform_matrix`` (camera-to-world, OpenGL axes: `nerf_metal.data.cameras`).
"""

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from numpy.typing import NDArray

from nerf_metal.data.cameras import Intrinsics, check_c2w
from nerf_metal.data.images import box_downscale, read_rgba
from nerf_metal.data.readers.files import IMAGE_SUFFIXES, check_folder, listed_frames, listing, read_json
from nerf_metal.data.scene import Scene, Split
from nerf_metal.util.errors import InputError
from nerf_metal.util.splits import SPLITS

# The format states neither box nor bounds; these are what everyone uses for it: objects within 1.5 of the
# origin, cameras about 4 away.
NEAR, FAR = 2.0, 6.0
HALF_EXTENT = 1.5
DECODE_THREADS = 2  # decoding is zlib, which releases the GIL; more only crowd the disk and the memory


def load_blender(
    path: str | os.PathLike[str],
    *,
    splits: Sequence[str] = ("train", "test"),
    downscale: int = 1,
    max_views: dict[str, int] | None = None,
) -> Scene:
    """Load a NeRF-synthetic folder.

    Args:
        path: the folder.
        splits: which of train, val, test to load.
        downscale: reduce images by this whole factor (`box_downscale`); it must divide their size.
        max_views: at most this many views of a split, evenly spaced over its frames; only those are decoded.

    Returns:
        The scene; near 2, far 6 and the box [-1.5, 1.5]^3 are the format's usual values, in world units.

    Raises:
        InputError: anything in the arguments, the JSON files or the images that cannot be used; see the
            message.
    """
    root = Path(path)
    _check_arguments(root, splits, downscale, max_views or {})
    notes: list[str] = []
    loaded = {name: _load_split(root, name, downscale, (max_views or {}).get(name), notes) for name in splits}
    opaque = [name for name, split in loaded.items() if not split.has_alpha]
    if opaque:
        notes.append(
            f"images of {', '.join(opaque)} have no alpha channel: the background setting has no effect on the truth"
        )
    box = torch.tensor([[-HALF_EXTENT] * 3, [HALF_EXTENT] * 3])
    return Scene(root.resolve().name, str(root), loaded, box, NEAR, FAR, notes)


def _check_arguments(root: Path, splits: Sequence[str], downscale: int, max_views: dict[str, int]) -> None:
    check_folder(root, "load_blender", "transforms_train.json")
    wanted = [splits] if isinstance(splits, str) else list(splits)
    for name in (*wanted, *max_views):
        if name not in SPLITS:
            raise InputError(
                f"[load_blender] splits and max_views must name some of {', '.join(SPLITS)}, got {name!r}; "
                "correct the name"
            )
    if isinstance(splits, str) or not wanted:
        raise InputError(f"[load_blender] splits must be a list of names, got {splits!r}; write ['train', 'test']")
    if isinstance(downscale, bool) or not isinstance(downscale, int) or downscale < 1:
        raise InputError(
            f"[load_blender] downscale must be an integer of at least 1, got {downscale!r}; 1 keeps the full size"
        )
    for name, count in max_views.items():
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise InputError(
                f"[load_blender] max_views must be an integer of at least 1 for {name!r}, got {count!r}; "
                "leave the split out to load every view"
            )


def _load_split(root: Path, name: str, downscale: int, max_views: int | None, notes: list[str]) -> Split:
    file = _transforms_file(root, name)
    meta = read_json(file, "load_blender")
    angle = meta.get("camera_angle_x")
    if isinstance(angle, bool) or not isinstance(angle, int | float) or not 0.0 < angle < math.pi:
        got = "none" if angle is None else repr(angle)
        raise InputError(
            f"[load_blender] {file} must have 'camera_angle_x' in (0, pi) radians, got {got}; "
            "write the camera's full horizontal angle of view"
        )
    frames = listed_frames(meta, file, "load_blender")
    parsed = [_parse_frame(frame, f"load_blender: {file} frame {i}") for i, frame in enumerate(frames)]
    if max_views is not None and max_views < len(parsed):
        notes.append(f"{name}: {max_views} of {len(parsed)} views, evenly spaced")
        parsed = [parsed[(2 * i + 1) * len(parsed) // (2 * max_views)] for i in range(max_views)]
    files = [root / relative for relative, _ in parsed]
    images, has_alpha = _decode_all(files, downscale)
    intrinsics = Intrinsics.from_fov_x(angle, images.shape[2], images.shape[1])
    return Split(
        name=name,
        images=torch.from_numpy(images),
        c2w=torch.stack([pose for _, pose in parsed]),
        intrinsics=intrinsics,
        names=[str(relative.with_suffix("")) for relative, _ in parsed],
        has_alpha=has_alpha,
    )


def _transforms_file(root: Path, split: str) -> Path:
    file = root / f"transforms_{split}.json"
    if file.is_file():
        return file
    raise InputError(
        f"[load_blender] {root} must have {file.name}, got {listing(root)}; "
        f"give the folder that holds {file.name}, or leave {split!r} out of splits"
    )


def _parse_frame(frame: object, where: str) -> tuple[PurePosixPath, torch.Tensor]:
    keys = frame if isinstance(frame, dict) else {}
    for key in ("file_path", "transform_matrix"):
        if key not in keys:
            raise InputError(f"[{where}] must have {key!r}, got keys {sorted(keys)}; add it or remove the frame")
    text = keys["file_path"]
    if not isinstance(text, str) or not text:
        raise InputError(f"[{where}] file_path must be a path, got {text!r}; name the frame's image")
    relative = PurePosixPath(text if text.lower().endswith(IMAGE_SUFFIXES) else text + ".png")
    return relative, check_c2w(keys["transform_matrix"], where)


def _decode_all(files: list[Path], downscale: int) -> tuple[NDArray[np.uint8], bool]:
    """Decode and reduce: uint8 ``[N, H, W, 4]``, and whether any file has alpha."""
    first, _ = read_rgba(files[0])
    height, width = first.shape[:2]
    if height % downscale or width % downscale:
        common = math.gcd(height, width)
        # Up to 64 is more than anyone reduces by; the whole list of a large size would not fit a line.
        fitting = [d for d in range(1, min(common, 64) + 1) if common % d == 0]
        raise InputError(
            f"[load_blender] downscale must divide the image size {width}x{height}, got {downscale}; "
            f"use one of {', '.join(map(str, fitting))}"
        )
    images = np.empty((len(files), height // downscale, width // downscale, 4), dtype=np.uint8)

    def decode(index: int) -> bool:
        rgba, has_alpha = read_rgba(files[index])
        if rgba.shape[:2] != (height, width):
            raise InputError(
                f"[load_blender] {files[index]} must have the size of {files[0]}, {width}x{height}, got "
                f"{rgba.shape[1]}x{rgba.shape[0]}; bring the images of a split to one size"
            )
        images[index] = box_downscale(rgba, downscale)
        return has_alpha

    with ThreadPoolExecutor(DECODE_THREADS) as pool:
        return images, any(list(pool.map(decode, range(len(files)))))
