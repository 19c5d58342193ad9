"""The panel that chooses what the page shows, and from which camera."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from nerf_metal.data.scene import Scene
from nerf_metal.viewer.axes import fov_and_aspect, pose_for_page
from nerf_metal.viewer.live_picture import LivePicture, Settings
from nerf_metal.viewer.scene_graph import NamedCamera, add_cameras, named_cameras

OUTPUTS = {"colour": "color", "depth": "depth", "opacity": "opacity"}
"""The outputs of a field, by their names in the panel."""
BACKGROUNDS = {"white": (1.0, 1.0, 1.0), "grey": (0.5, 0.5, 0.5), "black": (0.0, 0.0, 0.0)}
FOV = (10.0, 120.0)
"""The field of view, degrees: from a long telephoto lens to the widest useful pinhole picture."""


class Controls:
    """The panel for the output, its sharpness, and jumps to the cameras. All open pages share it.

    Args:
        server: the viser server of the page.
        live: renders the pictures.
        cameras: the cameras to jump to.
        centre: the point that the camera orbits after a jump, ``[3]``.
        fov: the initial vertical field of view, radians.
        settings: the initial settings.
    """

    def __init__(
        self,
        server: Any,
        live: LivePicture,
        cameras: Sequence[NamedCamera],
        centre: torch.Tensor,
        fov: float,
        settings: Settings,
    ) -> None:
        """Add the controls to the panel."""
        self._server, self._live, self._centre = server, live, centre
        self._drawn: dict[str, Any] = {}
        self._hidden: str | None = None
        gui = server.gui
        background = next((name for name, color in BACKGROUNDS.items() if color == settings.background), "white")
        with gui.add_folder("View"):
            self._output = gui.add_dropdown("Show", tuple(OUTPUTS), initial_value="colour")
            self._background = gui.add_dropdown("Background", tuple(BACKGROUNDS), initial_value=background)
            self._width = gui.add_slider(
                "Width at rest", 128, 2048, 64, settings.width, hint="Greatest width of a sharp picture, pixels"
            )
            self._rate = gui.add_slider(
                "Frames per s",
                2,
                30,
                1,
                settings.frames_per_second,
                hint="Pictures per second while the camera moves. More pictures are less sharp.",
            )
            degrees = min(FOV[1], max(FOV[0], math.degrees(fov)))
            self.fov = gui.add_slider("Field of view", *FOV, 0.1, round(degrees, 1), hint="Vertical, degrees")
            self._show = gui.add_checkbox("Cameras", True)
            if cameras:
                by_name = {camera.name: camera for camera in cameras}
                self._jump = gui.add_dropdown("Jump to", tuple(by_name), hint="Clicking a camera jumps to it too")
                self._jump.on_update(lambda event: self.jump(event.client, by_name[event.target.value]))
        for handle in (self._output, self._background, self._width, self._rate):
            handle.on_update(lambda _: self._change())
        self.fov.on_update(lambda _: self._zoom())
        self._show.on_update(lambda _: self._show_cameras())

    def draw(self, scene: Scene) -> None:
        """Draw the cameras of a scene except the first one, which is where a page starts."""
        self._drawn = add_cameras(self._server, scene, self.jump)
        self._hidden = named_cameras(scene)[0].name
        self._show_cameras()

    def jump(self, client: Any, camera: NamedCamera) -> None:
        """Look through a camera of the scene.

        The camera itself is hidden meanwhile: its photograph would cover the field.
        """
        if client is None:  # the page was closed
            return
        fov, _ = fov_and_aspect(camera.camera)
        self._hidden = camera.name
        self._show_cameras()
        look_from(client, camera.c2w, fov, self._centre)
        self.fov.value = round(min(FOV[1], max(FOV[0], math.degrees(fov))), 1)

    def _change(self) -> None:
        self._live.change(
            Settings(
                output=OUTPUTS[self._output.value],  # type: ignore[arg-type]
                background=BACKGROUNDS[self._background.value],
                width=int(self._width.value),
                frames_per_second=float(self._rate.value),
            )
        )

    def _zoom(self) -> None:
        for client in self._server.get_clients().values():
            if abs(math.degrees(client.camera.fov) - self.fov.value) > 0.1:  # a jump sets both, but rounds the slider
                client.camera.fov = math.radians(self.fov.value)

    def _show_cameras(self) -> None:
        for name, node in self._drawn.items():
            node.visible = self._show.value and name != self._hidden


def look_from(client: Any, c2w: torch.Tensor, fov: float, centre: torch.Tensor) -> None:
    """Move a page's camera to a pose.

    Afterwards the camera orbits the point on its optical axis that is nearest to ``centre``.

    Args:
        client: the viser client of the page.
        c2w: pose ``[4, 4]``.
        fov: vertical field of view, radians.
        centre: ``[3]``, world units.
    """
    wxyz, position = pose_for_page(c2w)
    forward = -c2w[:3, 2].double().numpy()
    away = max(float(forward @ (centre.double().numpy() - position)), 0.1)
    with client.atomic():
        client.camera.fov = fov
        client.camera.position = position
        client.camera.look_at = position + away * forward
        client.camera.wxyz = wxyz  # last: it fixes the roll of the camera
