"""The page as a whole: who opens it gets the field's picture behind the cameras, and moves."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from nerf_metal.data.background import background_color, evaluation_background
from nerf_metal.data.cameras import look_at
from nerf_metal.data.scene import Scene
from nerf_metal.models import Model
from nerf_metal.viewer.axes import fov_and_aspect, pose_of_page
from nerf_metal.viewer.camera_path import CameraPathPanel
from nerf_metal.viewer.controls import Controls
from nerf_metal.viewer.live_picture import RenderLoop, Settings, View
from nerf_metal.viewer.picture import Picture
from nerf_metal.viewer.scene_graph import FRUSTUM_SIZE, add_box, named_cameras
from nerf_metal.viewer.server import close_server, is_private, open_server, url

JPEG_QUALITY = 90
"""Of pictures: no blocks are seen; a page on this machine need not save bytes."""
IDLE_SECONDS = 0.05
"""Between looks whether a page has come to rest."""
FOV = math.radians(50.0)
"""Without a camera to begin at: a standard lens."""


class Viewer:
    """Serves the page; :meth:`work` renders, in one thread, which the caller chooses.

    Args:
        scene: whose cameras are drawn; None where there is only the field.
        box: of the scene, ``[2, 3]``, world units.
        run: folder of the run, which camera paths are saved in.
        background: the run's setting.
        width: most pixels of a picture's row to begin with.
        host: address to serve on.
        port: to serve on, or the next free one.
        command: for messages.

    Raises:
        InputError: viser is missing, or the page cannot be served.
    """

    def __init__(
        self,
        scene: Scene | None,
        box: torch.Tensor,
        run: Path,
        *,
        background: str,
        width: int,
        host: str,
        port: int,
        command: str,
    ) -> None:
        """Serve the page; without a picture yet."""
        self.server = open_server(host, port, command)
        self._asked_port = port
        box = box.detach().cpu()
        self.loop = RenderLoop(self._send, box)
        color = background_color(evaluation_background(background), torch.zeros(1))
        self.loop.settings = Settings(background=tuple(color.tolist()), width=width)
        cameras = named_cameras(scene) if scene is not None else []
        centre, reach = box.mean(0), float((box[1] - box[0]).norm())
        if cameras:
            pose, camera = cameras[0].c2w, cameras[0].camera
            fov, aspect = fov_and_aspect(camera)
            distance = float((pose[:3, 3] - centre).norm())
        else:
            pose = look_at(centre + reach * torch.tensor([0.8, -0.8, 0.5]), centre, (0.0, 0.0, 1.0))
            fov, aspect, distance = FOV, 4 / 3, reach
        self.controls = controls = Controls(self.server, self.loop, cameras, centre, fov, self.loop.settings)
        self.path = CameraPathPanel(
            self.server,
            run,
            fov=lambda: controls.fov.value,
            aspect=aspect,
            centre=centre,
            size=FRUSTUM_SIZE * distance,
        )
        if scene is not None:
            controls.draw(scene)
        add_box(self.server, box)
        self._place_newcomers(pose, fov, centre)
        self.server.on_client_connect(self._welcome)
        self.server.on_client_disconnect(self._part)

    @property
    def address(self) -> str:
        """What to type into a browser on this machine."""
        return url(self.server)

    def notes(self) -> list[str]:
        """What a person should know of the address."""
        notes = []
        if self.server.get_port() != self._asked_port and self._asked_port:
            notes.append(f"port {self._asked_port} is taken: the page is on {self.server.get_port()}")
        if not is_private(self.server.get_host()):
            notes.append("the page is open to everybody in the network, without a password")
        return notes

    def work(self, model: Model) -> float:
        """Render a part of what is asked for; returns the seconds that it took, 0 where nothing is."""
        return self.loop.work(model.render, model.box.device)

    def serve(self, model: Model, stop: Callable[[], bool]) -> None:
        """Render what is asked for until ``stop`` says so."""
        while not stop():
            if not self.work(model):
                self.loop.asked.wait(IDLE_SECONDS)
                self.loop.asked.clear()

    def close(self) -> None:
        """Close the page."""
        close_server(self.server)

    def _place_newcomers(self, pose: torch.Tensor, fov: float, centre: torch.Tensor) -> None:
        """Where a page begins."""
        start = self.server.initial_camera
        eye, forward = pose[:3, 3].double(), -pose[:3, 2].double()
        away = max(float(forward @ (centre.double() - eye)), 0.1)
        start.position = tuple(eye.tolist())
        start.look_at = tuple((eye + away * forward).tolist())
        start.up = (0.0, 0.0, 1.0)
        start.fov = fov

    async def _welcome(self, client: Any) -> None:
        """In the server's own thread, as are the camera's updates: in order, and in no time."""

        async def look(camera: Any) -> None:
            if min(camera.image_width, camera.image_height) > 0:  # 0 while the window is folded away
                pose = pose_of_page(camera.wxyz, camera.position)
                self.loop.look(client.client_id, View(pose, camera.fov, camera.image_width, camera.image_height))

        client.camera.on_update(look)
        await look(client.camera)

    async def _part(self, client: Any) -> None:
        self.loop.leave(client.client_id)

    def _send(self, client_id: int, picture: Picture) -> None:
        client = self.server.get_clients().get(client_id)
        if client is not None:  # else it has gone meanwhile
            client.scene.set_background_image(
                picture.rgb, format="jpeg", jpeg_quality=JPEG_QUALITY, depth=picture.depth
            )
