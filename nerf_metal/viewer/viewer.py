"""The page as a whole: it shows the picture of the field behind the drawn cameras, from a camera that the reader
moves."""

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
from nerf_metal.viewer.live_picture import LivePicture, Settings, Viewpoint
from nerf_metal.viewer.picture import Picture
from nerf_metal.viewer.scene_graph import FRUSTUM_SIZE, add_box, named_cameras
from nerf_metal.viewer.server import close_server, is_private, open_server, url

JPEG_QUALITY = 90
"""The quality of the pictures: no blocks are visible, and a page on this machine need not save bytes."""
IDLE_SECONDS = 0.05
"""The time between two checks whether a page has come to rest."""
FOV = math.radians(50.0)
"""The initial vertical field of view, radians, without cameras: a standard lens."""


class Viewer:
    """The page of a field. It serves itself; the caller renders in one thread of its choice, by :meth:`work`.

    Args:
        scene: the scene whose cameras are drawn. None to draw no cameras.
        box: the scene's box ``[2, 3]``, world units.
        run: the run folder, where camera paths are saved.
        background: the run's option ``--background``.
        width: the initial greatest width of a picture, pixels.
        host: the address to serve on.
        port: the port to serve on; the next free port if it is taken.
        command: the command's name for messages.

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
        """Open the page, without a picture yet."""
        self.server = open_server(host, port, command)
        self._asked_port = port
        box = box.detach().cpu()
        self.live = LivePicture(self._send, box)
        color = background_color(evaluation_background(background), torch.zeros(1))
        self.live.settings = Settings(background=tuple(color.tolist()), width=width)
        cameras = named_cameras(scene) if scene is not None else []
        centre, reach = box.mean(0), float((box[1] - box[0]).norm())
        if cameras:
            pose, camera = cameras[0].c2w, cameras[0].camera
            fov, aspect = fov_and_aspect(camera)
            distance = float((pose[:3, 3] - centre).norm())
        else:
            pose = look_at(centre + reach * torch.tensor([0.8, -0.8, 0.5]), centre, (0.0, 0.0, 1.0))
            fov, aspect, distance = FOV, 4 / 3, reach
        self.controls = controls = Controls(self.server, self.live, cameras, centre, fov, self.live.settings)
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
        """The address of the page for a browser on this machine."""
        return url(self.server)

    def notes(self) -> list[str]:
        """Return what a person should know about the address of the page."""
        notes = []
        if self.server.get_port() != self._asked_port and self._asked_port:
            notes.append(f"port {self._asked_port} is taken; the page is on port {self.server.get_port()}")
        if not is_private(self.server.get_host()):
            notes.append("everybody in the network can open the page without a password")
        return notes

    def work(self, model: Model) -> float:
        """Render one chunk of rays for a page. Return the seconds that it took, or 0 if no page waits for a picture."""
        return self.live.work(model.render, model.box.device)

    def serve(self, model: Model, stop: Callable[[], bool]) -> None:
        """Render pictures until ``stop()`` returns true."""
        while not stop():
            if not self.work(model):
                self.live.asked.wait(IDLE_SECONDS)
                self.live.asked.clear()

    def close(self) -> None:
        """Close the page."""
        close_server(self.server)

    def _place_newcomers(self, pose: torch.Tensor, fov: float, centre: torch.Tensor) -> None:
        """Set the camera of a new page."""
        start = self.server.initial_camera
        eye, forward = pose[:3, 3].double(), -pose[:3, 2].double()
        away = max(float(forward @ (centre.double() - eye)), 0.1)
        start.position = tuple(eye.tolist())
        start.look_at = tuple((eye + away * forward).tolist())
        start.up = (0.0, 0.0, 1.0)
        start.fov = fov

    async def _welcome(self, client: Any) -> None:
        """Follow the camera of a new page. The server's own thread calls this, and all updates of the camera in
        order."""

        async def look(camera: Any) -> None:
            if min(camera.image_width, camera.image_height) > 0:  # 0 while the window is minimised
                pose = pose_of_page(camera.wxyz, camera.position)
                self.live.look(client.client_id, Viewpoint(pose, camera.fov, camera.image_width, camera.image_height))

        client.camera.on_update(look)
        await look(client.camera)

    async def _part(self, client: Any) -> None:
        self.live.leave(client.client_id)

    def _send(self, client_id: int, picture: Picture) -> None:
        client = self.server.get_clients().get(client_id)
        if client is not None:  # else the page was closed meanwhile
            client.scene.set_background_image(
                picture.rgb, format="jpeg", jpeg_quality=JPEG_QUALITY, depth=picture.depth
            )
