"""``transforms.json``: captures of instant-ngp and nerfstudio.

Poses are camera-to-world with OpenGL axes; pixels are counted as ours are, so the principal point needs no shift.
nerfstudio turns what COLMAP or a phone gave it and writes the turn down as ``applied_transform``, "to saved coordinates
from original data coordinates"; the capture's coordinates here are the original ones.
"""

from __future__ import annotations

import math
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from nerf_metal.data.cameras import DISTORTION, Intrinsics, check_c2w
from nerf_metal.data.photos import photo_size
from nerf_metal.data.readers.capture import Array, Capture, Frame, check_camera, find_image, frame_name, in_order, some
from nerf_metal.data.readers.files import listed_frames, read_json
from nerf_metal.util.errors import InputError
from nerf_metal.util.splits import SPLITS

CAMERA_MODELS = ("PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV")
"""All of them one polynomial, some of whose coefficients are 0."""
OTHER_LENSES = {"is_fisheye": "a fisheye", "ftheta_p0": "an f-theta lens", "latlong": "a latitude-longitude panorama"}
"""How instant-ngp marks lenses that are no pinhole."""


def read_transforms(root: Path) -> Capture:
    """Read a folder's ``transforms.json``.

    Raises:
        InputError: anything that cannot be used; the message names the frame.
    """
    file = root / "transforms.json"
    meta = read_json(file, "load_scene")
    listed = listed_frames(meta, file, "load_scene")
    original = _Original(meta, f"load_scene: {file}")
    frames, missing, depths = [], [], 0
    for i, entry in enumerate(listed):
        where = f"load_scene: {file} frame {i}"
        values = entry if isinstance(entry, dict) else {}
        for key in ("file_path", "transform_matrix"):
            if key not in values:
                raise InputError(f"[{where}] must have {key!r}, got keys {sorted(values)}; add it or remove the frame")
        depths += "depth_file_path" in values
        image = find_image(_path(root, values["file_path"], "file_path", where))
        if image is None:
            missing.append(frame_name(values["file_path"]))
            continue
        camera = _camera({**meta, **values}, image, where)
        mask = _path(root, values["mask_path"], "mask_path", where) if values.get("mask_path") else None
        c2w = original.pose(values["transform_matrix"], where)
        frames.append(Frame(frame_name(values["file_path"]), image, camera, c2w, mask))
    notes = []
    if missing:
        lack = f"{len(missing)} of {len(listed)} frames have no file: {some(sorted(missing), 20)}"
        if not frames:
            raise InputError(f"[load_scene] {file} must name photographs that exist, got none; {lack}; copy them there")
        notes.append(lack)
    if depths:
        notes.append(f"depth_file_path of {depths} frames is not used")
    frames = in_order(frames)
    scale = meta.get("aabb_scale")
    if isinstance(scale, int | float) and scale <= 0:
        raise InputError(f"[load_scene: {file}] aabb_scale must be more than 0, got {scale}; 1 is an object alone")
    return Capture(
        root,
        "transforms",
        frames,
        splits=_splits(meta, frames, missing, f"load_scene: {file}"),
        aabb_scale=None if scale is None else _number(scale, "aabb_scale", f"load_scene: {file}"),
        notes=notes,
    )


def _path(root: Path, text: object, key: str, where: str) -> Path:
    if not isinstance(text, str) or not frame_name(text):
        raise InputError(f"[{where}] {key} must be a path, got {text!r}; name the frame's file")
    return root / PurePosixPath(text.replace("\\", "/"))


def _number(value: object, key: str, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e30:
        raise InputError(f"[{where}] {key} must be a finite number, got {value!r}; export the cameras again")
    return float(value)


def _camera(values: dict[str, Any], image: Path, where: str) -> Intrinsics:
    """The camera of a frame, whose own values go before those of the whole capture."""
    model = values.get("camera_model", "OPENCV")
    lens = next((name for key, name in OTHER_LENSES.items() if values.get(key)), None)
    if model not in CAMERA_MODELS or lens:
        raise InputError(
            f"[{where}] camera_model must be one of {', '.join(CAMERA_MODELS)}, got {lens or model}; "
            "undistort the photographs to a pinhole first (COLMAP: image_undistorter)"
        )
    given = {
        key: _number(values[key], key, where)
        for key in ("fl_x", "fl_y", "camera_angle_x", "camera_angle_y", "cx", "cy", "w", "h", *DISTORTION)
        if values.get(key) is not None
    }
    for key in ("w", "h"):
        if key in given and not (given[key] > 0 and given[key] == math.floor(given[key])):
            raise InputError(f"[{where}] {key} must be a whole number of pixels, got {given[key]}; correct it")
    width, height = (int(given[key]) for key in "wh") if "w" in given and "h" in given else photo_size(image)
    focal = {}
    for axis, size in (("x", width), ("y", height)):
        angle = given.get(f"camera_angle_{axis}")
        if f"fl_{axis}" in given:
            focal[axis] = given[f"fl_{axis}"]
        elif angle is not None:
            if not 0.0 < angle < math.pi:
                raise InputError(f"[{where}] camera_angle_{axis} must be in (0, pi) radians, got {angle}; correct it")
            focal[axis] = 0.5 * size / math.tan(0.5 * angle)
    if not focal:
        raise InputError(
            f"[{where}] must have 'fl_x' or 'camera_angle_x', here or for the whole file, got neither; "
            "write the focal length in pixels"
        )
    first = next(iter(focal.values()))  # pixels are square where one of the two is not given
    return check_camera(
        Intrinsics(
            fl_x=focal.get("x", first),
            fl_y=focal.get("y", first),
            cx=given.get("cx", 0.5 * width),
            cy=given.get("cy", 0.5 * height),
            width=width,
            height=height,
            **{key: value for key, value in given.items() if key in DISTORTION},
        ),
        where,
    )


class _Original:
    """From the file's coordinates back to those before ``applied_transform`` and then ``applied_scale`` led to it."""

    def __init__(self, meta: dict[str, Any], where: str) -> None:
        """Read both."""
        self.scale = _number(meta.get("applied_scale", 1.0), "applied_scale", where)
        applied: object = meta.get("applied_transform")
        if isinstance(applied, list) and len(applied) == 3:
            applied = [*applied, [0.0, 0.0, 0.0, 1.0]]
        self.applied = np.eye(4) if applied is None else _rigid(applied, f"{where} applied_transform")
        if not self.scale > 0:
            raise InputError(f"[{where}] applied_scale must be more than 0, got {self.scale}; correct or remove it")

    def pose(self, matrix: object, where: str) -> Array:
        """A frame's pose."""
        c2w = _rigid(matrix, where)
        c2w[:3, 3] /= self.scale
        return np.linalg.inv(self.applied) @ c2w


def _rigid(matrix: object, where: str) -> Array:
    check_c2w(matrix, where)
    return np.array(matrix, dtype=np.float64)


def _splits(meta: dict[str, Any], frames: list[Frame], missing: list[str], where: str) -> dict[str, list[int]] | None:
    """nerfstudio's own lists of files. Where there is one for training alone, the other frames are for testing, and the
    other way round."""
    index = {frame.name: i for i, frame in enumerate(frames)}
    splits: dict[str, list[int]] = {}
    for split in SPLITS:
        names = meta.get(f"{split}_filenames")
        if names is None:
            continue
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise InputError(f"[{where}] {split}_filenames must be a list of paths, got {names!r}; correct it")
        wanted = {frame_name(name) for name in names}
        unknown = sorted(wanted - set(index) - set(missing))
        if unknown:
            raise InputError(
                f"[{where}] {split}_filenames must name frames of the file, got {some(unknown)}; correct the list"
            )
        splits[split] = sorted(index[name] for name in wanted if name in index)
    if not splits:
        return None
    rest = sorted(set(range(len(frames))) - {i for indices in splits.values() for i in indices})
    if "train" not in splits:
        splits["train"] = rest
    elif len(splits) == 1:
        splits["test"] = rest
    return splits
