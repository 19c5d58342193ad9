"""The folder of a film: its frames, a record of the film they belong to, and continuing after an interruption.

``NAME.png`` holds the colours of a frame. Every other picture of it is ``KIND/NAME.png``, where ``KIND`` is ``depth``,
``depth_colors``, ``opacity`` or ``normals``. ``path.json`` identifies the film; ``depth.json`` holds the unit of
depths.
"""

from __future__ import annotations

import functools
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import imageio.v3 as iio
import numpy as np
import torch

from nerf_metal.data.cameras import Intrinsics
from nerf_metal.export.camera_paths import CameraPath
from nerf_metal.export.frame_pictures import COLOR_MAP, SOLID, DepthScale, depth_scale, frame_pictures
from nerf_metal.export.outputs import OUTPUTS
from nerf_metal.models import Model
from nerf_metal.util.atomic import sweep_temporaries, write_atomically, write_json
from nerf_metal.util.errors import InputError

MARK = "nerf_metal film"


@dataclass(frozen=True)
class Film:
    """A film and its folder.

    Attributes:
        folder: folder of its files.
        names: names of the frames.
        path: pose and camera of every frame.
        step: number of training steps of the weights.
        background: ``"white"`` or ``"black"``.
        capture_scale: number of scene units in one unit of the capture.
    """

    folder: Path
    names: list[str]
    path: CameraPath
    step: int
    background: str
    capture_scale: float

    def pictures(self, output: str, name: str) -> list[Path]:
        """Return the files of one output of a frame."""
        return [self.folder / kind / f"{name}.png" for kind in OUTPUTS[output]]

    def claim(self, overwrite: bool) -> None:
        """Reserve the folder for this film. Frames of the same film are kept, unless ``overwrite`` deletes them.

        Raises:
            InputError: the folder cannot be written, or it holds frames of another film or unknown pictures and
                ``overwrite`` is false.
        """
        about, before = self._about(), _read(self.folder / "path.json")
        if overwrite:
            self._clear((before or about)["names"])
        elif difference := _difference(before, about) if before else self._strangers():
            raise InputError(
                f"[render] --out must be a new folder or hold frames of the same film, got {self.folder} with "
                f"{difference}; add --overwrite or give another --out"
            )
        for kind in {kind for kinds in OUTPUTS.values() for kind in kinds}:
            sweep_temporaries(self.folder / kind)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(self.folder / "path.json", about)
        except OSError as error:
            raise InputError(
                f"[render] --out must be a folder that can be written, got {self.folder} ({error.strerror}); "
                "give another --out"
            ) from None

    def _about(self) -> dict[str, Any]:
        digest = hashlib.sha256()
        for c2w, camera in self.path:
            digest.update(c2w.cpu().numpy().tobytes())
            digest.update(np.array([getattr(camera, name) for name in Intrinsics.__match_args__]).tobytes())
        return {
            "kind": MARK,
            "cameras": digest.hexdigest(),
            "checkpoint_step": self.step,
            "background": self.background,
            "names": self.names,
        }

    def _strangers(self) -> str | None:
        return "pictures of unknown origin" if any(self.folder.glob("*.png")) else None

    def _clear(self, names: list[str]) -> None:
        for name in names:
            for output in OUTPUTS:
                for path in self.pictures(output, Path(name).name):
                    path.unlink(missing_ok=True)
        for name in ("depth.json", *(f"{output}.mp4" for output in OUTPUTS)):
            (self.folder / name).unlink(missing_ok=True)

    def depths(self, model: Model, device: torch.device) -> DepthScale:
        """Return the scale of the depths, and write it to ``depth.json`` for readers of the pictures."""
        path = self.folder / "depth.json"
        about = _read(path)
        if about is not None:
            return DepthScale(about["scene_units_per_value"], *about["color_map_range"])
        scale = depth_scale(model, self.path, device)
        about = {
            "kind": MARK,
            "depth": "distance from the camera's position along the pixel's ray: value * units_per_value",
            "scene_units_per_value": scale.unit,
            "capture_units_per_value": scale.unit / self.capture_scale,
            "nothing": 0,
            "nothing_below_opacity": SOLID,
            "color_map": f"{COLOR_MAP}, reversed: near is warm",
            "color_map_range": [scale.near, scale.far],
        }
        write_json(path, about)
        return scale


class Rendered(NamedTuple):
    """The number of frames rendered now, the number of frames that existed, and the seconds that rendering took."""

    frames: int
    kept: int
    seconds: float


def render_frames(
    film: Film,
    views: list[int],
    outputs: tuple[str, ...],
    model: Model,
    background: torch.Tensor,
    progress: Callable[..., Any],
) -> Rendered:
    """Render the missing frames of a film.

    Args:
        film: the film, after :meth:`Film.claim`.
        views: indices of the frames.
        outputs: keys of `OUTPUTS`.
        method: the trained model.
        background: background colour ``[3]``, on the device of the model.
        progress: wraps the sequence of frames, as ``tqdm`` does.
    """
    missing = {
        index: tuple(x for x in outputs if not all(path.exists() for path in film.pictures(x, film.names[index])))
        for index in views
    }
    todo = [index for index in views if missing[index]]
    depths = film.depths(model, background.device) if "depth" in outputs else None
    seconds = 0.0
    for kind in {kind for output in outputs for kind in OUTPUTS[output]}:
        (film.folder / kind).mkdir(exist_ok=True)
    for index in progress(todo):
        start = time.perf_counter()
        c2w, camera = film.path[index]
        pictures = frame_pictures(model, c2w, camera, missing[index], background, depths)
        seconds += time.perf_counter() - start
        for kind, picture in pictures.items():
            path = film.folder / kind / f"{film.names[index]}.png"
            write_atomically(path, functools.partial(iio.imwrite, image=picture, extension=".png"))
    return Rendered(len(todo), len(views) - len(todo), seconds)


def _difference(before: dict[str, Any], now: dict[str, Any]) -> str | None:
    if before.get("cameras") != now["cameras"]:
        return "frames of other cameras"
    for name in ("checkpoint_step", "background"):
        if before.get(name) != now[name]:
            return f"frames of another {name.replace('_', ' ')} ({before.get(name)}, now {now[name]})"
    return None


def _read(path: Path) -> dict[str, Any] | None:
    """Read a JSON file that this module wrote; return None if there is none, or another program wrote it."""
    try:
        about = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return about if isinstance(about, dict) and about.get("kind") == MARK else None
