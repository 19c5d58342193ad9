"""Camera paths as JSON, as the viewer of nerfstudio writes and its ``ns-render camera-path`` reads them.

``camera_path`` holds the frames: ``camera_to_world`` (16 numbers, row by row, OpenGL axes), ``fov`` (vertical, degrees)
and ``aspect`` (width / height, which nerfstudio does not read either). Poses are in the coordinates of our scene, as
poses in nerfstudio's own files are in those of its scene. One key is ours: ``"frame": "capture"`` says that poses are
in the coordinates of the capture (the poses as they were given); they are mapped, and an orientation keeps its angles.
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

MOST_PIXELS = 16384  # a side; far beyond any film, and H.264 ends there
MOST_FPS = 240.0  # slow motion of a phone
MOST_NUMBER = 1e30  # float32 holds it: neither infinity nor an integer of hundreds of digits, which JSON allows


class PathFile(NamedTuple):
    """What a file says: the frames, how many of them a second, and whether the first follows on the last."""

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
    """The object to write as JSON.

    Args:
        frames: pose in scene coordinates, camera-to-world with OpenGL axes, and camera of every frame.
        fps: frames a second.
        keyframes: the poses that a person chose, from which a viewer can go on.
        is_cycle: whether the first frame follows on the last.

    Raises:
        InputError: no frames, or cameras that the format cannot hold: sizes that differ, pixels that are not square, a
            principal point off the middle, a distortion;
            :func:`nerf_metal.export.camera_paths.film_camera` makes one that it can.
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
    """Read what :func:`camera_path_to_json` or nerfstudio wrote.

    Args:
        text: the file's content.
        where: names the file in messages.
        capture_to_scene: the similarity ``[4, 4]`` of a :class:`nerf_metal.data.scene.Scene`, for poses in the
            capture's coordinates.

    Raises:
        InputError: anything that cannot be rendered as it stands; one line names the key and the frame.
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
    fps = about.get("fps", 30)  # written by every version of the viewer, not by every script
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
    """A pose ``[4, 4]`` in other coordinates: the position is scaled, the rotation stays one."""
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
    if camera.distorted or off > 1e-3:  # of a pixel: nothing to see
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
