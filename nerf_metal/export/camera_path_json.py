"""Camera paths as JSON, in the format that nerfstudio's viewer writes and ``ns-render camera-path`` reads.

``camera_path`` holds the frames. Each has ``camera_to_world`` (16 numbers, row by row, OpenGL axes), ``fov`` (vertical
angle of view in degrees) and ``aspect`` (width / height, which neither nerfstudio nor this module reads). Poses are in
the coordinates of the scene, as in nerfstudio's own files.

The key ``"frame": "capture"`` is an addition of this package. It says that the poses are in the coordinates of the
capture, as its poses were given. They are then mapped to the scene by a similarity, which keeps angles.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np
import torch
from torch import Tensor

from nerf_metal.data.cameras import Intrinsics, check_c2w
from nerf_metal.export.camera_paths import CameraPath
from nerf_metal.util.errors import InputError

MOST_PIXELS = 16384  # of width and of height: the limit of H.264, far beyond any film
MOST_FPS = 240.0  # as phones record slow motion
MOST_NUMBER = 1e30  # float32 can hold it; JSON also allows infinity and integers of hundreds of digits


class PathFile(NamedTuple):
    """The content of a file: the frames, the frames per second, and whether the first frame follows the last."""

    frames: CameraPath
    fps: float
    is_cycle: bool


def camera_path_to_json(
    frames: Sequence[tuple[Tensor, Intrinsics]],
    *,
    fps: int,
    keyframes: Sequence[tuple[Tensor, Intrinsics]] | None = None,
    is_cycle: bool = False,
) -> dict[str, Any]:
    """Return the object to write as JSON.

    Args:
        frames: pose (camera-to-world in scene coordinates, OpenGL axes) and camera of every frame.
        fps: frames per second.
        keyframes: the poses that a person chose; a viewer can continue to edit them.
        is_cycle: whether the first frame follows the last.

    Raises:
        InputError: there are no frames, or the format cannot hold the cameras, because their sizes differ, their pixels
            are not square, their principal point is not in the middle, or they have distortion.
            :func:`nerf_metal.export.camera_paths.film_camera` makes a camera that the format can hold.
    """
    if not frames:
        raise InputError("[camera_path_to_json] frames must be at least 1, got 0; add a pose")
    camera = frames[0][1]
    for _, other in [*frames, *(keyframes or ())]:
        _check_pinhole(other, camera)
    return {
        "frame": "scene",
        "camera_type": "perspective",
        "render_width": camera.width,
        "render_height": camera.height,
        "fps": fps,
        "seconds": len(frames) / fps,
        "is_cycle": is_cycle,
        "smoothness_value": 0.0,
        "default_fov": _fov(camera),
        "default_transition_sec": len(frames) / fps / max(1, len(keyframes or ()) - 1),
        "keyframes": [
            {"matrix": _numbers(c2w), **_view(camera), "override_transition_enabled": False}
            for c2w, camera in keyframes or ()
        ],
        "camera_path": [{"camera_to_world": _numbers(c2w), **_view(camera)} for c2w, camera in frames],
        "crop": None,
    }


def camera_path_from_json(text: str, where: str, capture_to_scene: Tensor) -> PathFile:
    """Read a file that :func:`camera_path_to_json` or nerfstudio wrote.

    Args:
        text: content of the file.
        where: name of the file, for messages.
        capture_to_scene: the similarity ``[4, 4]`` of a :class:`nerf_metal.data.scene.Scene`, for poses in the
            capture's coordinates.

    Raises:
        InputError: the path cannot be rendered as it is; the message names the key and the frame.
    """
    try:
        about = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"[camera path] {where} must be JSON, got {error}; save the path again") from None
    if not isinstance(about, dict):
        raise InputError(f"[camera path] {where} must hold an object, got {_shown(about)}; save the path again")
    kind = about.get("camera_type", "perspective")
    if kind != "perspective":
        _reject(where, "camera_type", "be perspective", kind, "save the path with that camera")
    if about.get("crop") is not None:
        _reject(where, "crop", "be null", about["crop"], "switch cropping off and save the path again")
    frame = about.get("frame", "scene")
    if frame not in ("scene", "capture"):
        _reject(where, "frame", "be scene or capture", frame, "leave it out for scene")
    width, height = (_size(about, name, where) for name in ("render_width", "render_height"))
    fps = about.get("fps", 30)  # every version of the viewer writes it, but not every script
    if not _is_number(fps) or not 0 < fps <= MOST_FPS:
        _reject(where, "fps", f"be a number above 0 and at most {MOST_FPS:g}", fps, "30 is usual")
    shots = about.get("camera_path")
    if not isinstance(shots, list) or not shots:
        _reject(where, "camera_path", "be a list of at least one frame", shots, "add keyframes and save the path again")
    frames = [_frame(shot, f"{where}, frame {i}", width, height) for i, shot in enumerate(shots)]
    if frame == "capture":
        frames = [(mapped(c2w, capture_to_scene), camera) for c2w, camera in frames]
    return PathFile(frames, fps, about.get("is_cycle") is True)


def mapped(c2w: Tensor, similarity: Tensor) -> Tensor:
    """Map a pose ``[4, 4]`` to other coordinates by a similarity ``[4, 4]``, which does not scale its rotation."""
    s = similarity.double()
    scale = torch.linalg.det(s[:3, :3]) ** (1 / 3)
    pose = s @ c2w.double()
    pose[:3, :3] /= scale
    return pose.float()


def _frame(shot: Any, where: str, width: int, height: int) -> tuple[Tensor, Intrinsics]:
    if not isinstance(shot, dict) or "camera_to_world" not in shot or "fov" not in shot:
        raise InputError(
            f"[camera path] {where} must have camera_to_world and fov, got {_shown(shot)}; save the path again"
        )
    numbers = shot["camera_to_world"]
    if not isinstance(numbers, list) or len(numbers) != 16 or not all(map(_is_number, numbers)):
        _reject(where, "camera_to_world", "be 16 numbers, row by row", numbers, "save the path again")
    c2w = check_c2w(np.reshape(numbers, (4, 4)), f"camera path {where}")
    fov = shot["fov"]
    if not _is_number(fov) or not 0 < fov < 180:
        _reject(where, "fov", "be the vertical angle of view in (0, 180) degrees", fov, "50 is usual")
    focal = 0.5 * height / math.tan(0.5 * math.radians(fov))
    return c2w, Intrinsics(focal, focal, 0.5 * width, 0.5 * height, width, height)


def _check_pinhole(camera: Intrinsics, first: Intrinsics) -> None:
    size = (first.width, first.height)
    if (camera.width, camera.height) != size:
        raise InputError(
            f"[camera_path_to_json] frames must all be of {size[0]}x{size[1]} pixels as the first, got "
            f"{camera.width}x{camera.height}; use one size"
        )
    off = max(abs(camera.cx - 0.5 * size[0]), abs(camera.cy - 0.5 * size[1]), abs(camera.fl_x - camera.fl_y))
    if camera.distorted or off > 1e-3:  # of a pixel, which is invisible
        raise InputError(
            f"[camera_path_to_json] cameras must be pinholes of square pixels with the principal point in the middle, "
            f"got {camera}; use camera_paths.film_camera"
        )


def _fov(camera: Intrinsics) -> float:
    return math.degrees(2.0 * math.atan(0.5 * camera.height / camera.fl_y))


def _view(camera: Intrinsics) -> dict[str, float]:
    return {"fov": _fov(camera), "aspect": camera.width / camera.height}


def _numbers(c2w: Tensor) -> list[float]:
    numbers: list[float] = c2w.detach().cpu().double().reshape(16).tolist()
    return numbers


def _size(about: dict[str, Any], name: str, where: str) -> int:
    value: Any = about.get(name)
    if not _is_number(value) or value != int(value) or not 1 <= value <= MOST_PIXELS:
        _reject(where, name, f"be whole pixels from 1 to {MOST_PIXELS}", value, "set the resolution and save again")
    return int(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < MOST_NUMBER


def _reject(where: str, name: str, expected: str, value: Any, cure: str) -> NoReturn:
    raise InputError(f"[camera path] {name} of {where} must {expected}, got {_shown(value)}; {cure}")


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
