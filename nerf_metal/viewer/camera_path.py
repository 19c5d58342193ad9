"""The panel for the camera path of a video: key poses, a preview, and a file for ``nerf-metal render``."""

from __future__ import annotations

import json
import math
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nerf_metal.export.camera_path_json import camera_path_to_json
from nerf_metal.export.camera_paths import CameraPath, interpolate
from nerf_metal.util.atomic import write_atomically
from nerf_metal.util.errors import InputError
from nerf_metal.viewer.axes import camera_of_page, pose_for_page, pose_of_page
from nerf_metal.viewer.controls import look_from

COLOR = (40, 110, 230)
DRAWN_STEPS = 32
"""The points of the drawn curve between two key poses: the curve looks smooth."""
VIDEO_SIZE = 960
"""The initial longer side of a video, pixels: it is sharp on half a screen, and renders in minutes."""
PREVIEW_RATE = 24.0
"""Poses per second of the preview: the rate of films, and a page shows no more."""
MOST_FRAMES = 20_000
"""The most frames of a path, a quarter of an hour at 24 frames per second: a greater number is a typing error."""


class CameraPathPanel:
    """The panel of the camera path. All open pages share one list of key poses, in the order of the video.

    Args:
        server: the viser server of the page.
        run: the run folder. Files go into its ``camera_paths``.
        fov: returns the video's vertical field of view, degrees.
        aspect: width / height of the video.
        centre: the point that the camera orbits after the preview, ``[3]``.
        size: the length of a key pose's frustum, world units.
    """

    def __init__(
        self,
        server: Any,
        run: Path,
        *,
        fov: Callable[[], float],
        aspect: float,
        centre: torch.Tensor,
        size: float,
    ) -> None:
        """Add the controls to the panel."""
        self._server, self._run = server, run
        self._fov, self._centre, self._size = fov, centre, size
        self._keys: list[torch.Tensor] = []
        self._nodes: list[Any] = []
        self._lock = threading.Lock()
        self._playing = threading.Event()
        width, height = (round(VIDEO_SIZE * side / max(1.0, aspect) / 2) * 2 for side in (aspect, 1.0))
        gui = server.gui
        with gui.add_folder("Camera path", expand_by_default=False):
            add = gui.add_button("Add key pose", hint="Adds the current camera of the page")
            remove = gui.add_button("Remove last key pose")
            clear = gui.add_button("Remove all key poses")
            self._seconds = gui.add_number("Duration, s", 6.0, min=0.1, max=600.0, step=0.5)
            self._fps = gui.add_number("Frames per s", 24, min=1, max=120, step=1)
            self._width = gui.add_number("Width, px", width, min=2, max=16384, step=2)  # H.264 takes even sizes
            self._height = gui.add_number("Height, px", height, min=2, max=16384, step=2)
            self._closed = gui.add_checkbox("Closed loop", False, hint="Returns to the first key pose")
            self._play = gui.add_button("Preview")
            self._name = gui.add_text("File name", "path")
            save = gui.add_button("Save path")
            self._message = gui.add_markdown("A path needs two or more key poses.")
        add.on_click(lambda event: self.add(event.client))
        remove.on_click(lambda _: self.remove(1))
        clear.on_click(lambda _: self.remove(len(self._keys)))
        self._closed.on_update(lambda _: self._draw())
        self._play.on_click(lambda event: self.preview(event.client))
        save.on_click(lambda _: self.save())

    def frames(self, count: int) -> CameraPath:
        """Return the path as this number of frames.

        Raises:
            InputError: there are fewer than two key poses.
        """
        with self._lock:
            keys = list(self._keys)
        if len(keys) < 2:
            raise InputError(f"A path must have two or more key poses, got {len(keys)}. Add a key pose.")
        width, height = int(self._width.value), int(self._height.value)
        camera = camera_of_page(math.radians(self._fov()), width / height, width, height)
        if self._closed.value:
            return interpolate(torch.stack([*keys, keys[0]]), camera, count + 1)[:-1]
        return interpolate(torch.stack(keys), camera, count)

    def add(self, client: Any) -> None:
        """Add the current camera of a page as a key pose."""
        if client is None:
            return
        pose = pose_of_page(client.camera.wxyz, client.camera.position)
        with self._lock:
            if self._keys and torch.allclose(self._keys[-1], pose, atol=1e-4):
                message = "This pose is already the last key pose. Move the camera first."
            else:
                self._keys.append(pose)
                message = self._count()
        self._draw()
        self._message.content = message

    def remove(self, count: int) -> None:
        """Remove the last ``count`` key poses."""
        with self._lock:
            del self._keys[len(self._keys) - count :]
            self._message.content = self._count()
        self._draw()

    def _count(self) -> str:
        return f"The path has {len(self._keys)} key pose{'' if len(self._keys) == 1 else 's'}."

    def _draw(self) -> None:
        with self._lock:
            keys = list(self._keys)
            for node in self._nodes:
                node.remove()
            self._nodes = []
            for index, pose in enumerate(keys):
                wxyz, position = pose_for_page(pose)
                self._nodes.append(
                    self._server.scene.add_camera_frustum(
                        f"/path/{index}",
                        fov=math.radians(self._fov()),
                        aspect=self._width.value / self._height.value,
                        scale=self._size,
                        thickness=2.0,
                        thickness_units="screen",
                        color=COLOR,
                        wxyz=wxyz,
                        position=position,
                    )
                )
        if len(keys) < 2:
            return
        path = self.frames(DRAWN_STEPS * len(keys))
        points = np.stack([pose[:3, 3].numpy() for pose, _ in path])
        segments = np.stack((points[:-1], points[1:]), axis=1)
        line = self._server.scene.add_line_segments(
            "/path/line", points=segments, colors=COLOR, thickness=2.0, thickness_units="screen"
        )
        with self._lock:
            self._nodes.append(line)

    def preview(self, client: Any) -> None:
        """Move the camera of a page along the path, in the thread of the click. A second click stops it."""
        if self._playing.is_set():
            self._playing.clear()
            return
        try:
            path = self.frames(max(2, round(self._seconds.value * PREVIEW_RATE)))
        except InputError as error:
            self._message.content = str(error)
            return
        self._playing.set()
        self._play.label = "Stop"
        try:
            fov = math.radians(self._fov())
            start = time.monotonic()
            while self._playing.is_set() and client.client_id in self._server.get_clients():
                index = min(int((time.monotonic() - start) * PREVIEW_RATE), len(path) - 1)
                look_from(client, path[index][0], fov, self._centre)
                if index == len(path) - 1:  # also if a busy machine skipped poses
                    break
                time.sleep(1.0 / PREVIEW_RATE)
        finally:
            self._playing.clear()
            self._play.label = "Preview"

    def save(self) -> None:
        """Write the path's file, or show why it cannot be written."""
        name, fps = self._name.value.strip(), int(self._fps.value)
        if not re.fullmatch(r"\w[\w.-]{0,99}", name):  # a file name that cannot lead to another folder
            self._message.content = (
                f"The file name must have letters, digits, dots, dashes and underscores only, got {name!r}."
            )
            return
        try:
            count = max(2, round(self._seconds.value * fps))
            if count > MOST_FRAMES:
                raise InputError(
                    f"A path must have at most {MOST_FRAMES} frames, got {count}. Choose a shorter duration."
                )
            frames = self.frames(count)
            camera = frames[0][1]
            with self._lock:
                keys = [(pose, camera) for pose in self._keys]
            about = camera_path_to_json(frames, fps=fps, keyframes=keys, is_cycle=self._closed.value)
            path = self._run / "camera_paths" / f"{name}.json"
            replaced = path.exists()
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, lambda to: to.write_text(json.dumps(about) + "\n"))
        except InputError as error:
            self._message.content = str(error)
        except OSError as error:
            self._message.content = f"The path was not saved: {error.strerror or error}."
        else:
            verb = "Replaced" if replaced else "Saved"
            self._message.content = f"{verb} the path. Render it: `nerf-metal render {self._run} --path {path}`"
