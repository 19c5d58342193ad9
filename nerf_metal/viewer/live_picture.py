"""What is rendered next for whom, and how sharply.

Pages ask from any thread (:meth:`RenderLoop.look`); one thread renders, a band of rays at a time
(:meth:`RenderLoop.work`). Only a page's newest view counts. While it moves, pictures are as large as the measured speed
allows in the time of a frame; at rest each next one has twice the width, up to the page's. A sharp picture that is out
of date is given up, a quick one is finished, or nothing would show while one moves without pause.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from nerf_metal.data.cameras import pixel_rays
from nerf_metal.models.pixels import RenderedPixels
from nerf_metal.train.evaluation import Render
from nerf_metal.viewer.axes import camera_of_page
from nerf_metal.viewer.picture import Output, Picture, make_picture

REST_SECONDS = 0.2
"""Without a new view: a hand on a mouse sends one every few milliseconds, and pauses shorter than this are no rest."""
BAND_SECONDS = 0.04
"""Of a band of rays: short enough to drop it, or to train on, unnoticed; long enough that launching it costs little."""
LEAST_BAND = 512
"""Rays: fewer take as long."""
LEAST_PIXELS = 6144
"""Of a picture, 96 x 64: with less nothing is recognised, and on a GPU or a busy machine it takes as long."""
FIRST_SPEED = 20_000.0
"""Rays per second before any was measured: a slow laptop's."""


@dataclass(frozen=True)
class View:
    """Where a page looks from: pose ``[4, 4]``, vertical angle of view (radians), and its size in pixels."""

    c2w: torch.Tensor
    fov: float
    width: int
    height: int


@dataclass(frozen=True)
class Settings:
    """How pictures are made: what of, over which colour, at most how wide, and how many a second while one moves."""

    output: Output = "color"
    background: tuple[float, float, float] = (1.0, 1.0, 1.0)
    width: int = 1024
    frames_per_second: float = 12.0


@dataclass
class _Job:
    """A picture on its way."""

    view: View
    version: int
    settings: Settings
    width: int
    height: int
    quick: bool
    parts: list[RenderedPixels] = field(default_factory=list)
    cosines: list[torch.Tensor] = field(default_factory=list)
    done: int = 0
    seconds: float = 0.0


@dataclass
class _Visitor:
    """A page: its newest view by number, when it last moved, and the pixels of what it was shown of that view."""

    view: View
    moved: float
    version: int = 0
    shown: int = 0
    outdated: bool = False
    job: _Job | None = None


class RenderLoop:
    """See the module.

    Args:
        send: given a page's number and a picture for it; must not wait.
        box: ``[2, 3]``, whose distance colours depths.
        clock: seconds.
    """

    def __init__(
        self, send: Callable[[int, Picture], None], box: torch.Tensor, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Nobody looks yet."""
        self._send, self._clock = send, clock
        self._box = box.detach().cpu()
        self._lock = threading.Lock()
        self._visitors: dict[int, _Visitor] = {}
        self._speed = self._band_speed = FIRST_SPEED  # rays per second: of whole pictures, of the last band
        self.settings = Settings()
        self.asked = threading.Event()

    def look(self, client: int, view: View) -> None:
        """A page came, moved or was resized."""
        with self._lock:
            visitor = self._visitors.setdefault(client, _Visitor(view, self._clock()))
            visitor.view, visitor.moved = view, self._clock()
            visitor.version, visitor.shown = visitor.version + 1, 0
        self.asked.set()

    def leave(self, client: int) -> None:
        """A page was closed."""
        with self._lock:
            self._visitors.pop(client, None)

    def change(self, settings: Settings) -> None:
        """Make all pictures again in another way."""
        with self._lock:
            self.settings = settings
            for visitor in self._visitors.values():
                visitor.version, visitor.shown = visitor.version + 1, 0
        self.asked.set()

    def outdate(self) -> None:
        """The field has changed: show it again, at once as sharply as before."""
        with self._lock:
            for visitor in self._visitors.values():
                visitor.outdated = True

    @property
    def moving(self) -> bool:
        """Whether somebody moves."""
        with self._lock:
            return any(self._clock() - visitor.moved < REST_SECONDS for visitor in self._visitors.values())

    def work(self, render: Render, device: torch.device) -> float:
        """Render a band for the page whose turn it is, and send the picture where it was the last; returns the seconds
        that it took, 0 where nobody waits for anything."""
        chosen = self._choose()
        if chosen is None:
            return 0.0
        client, job = chosen
        start = self._clock()
        self._render_band(job, render, device)
        finished = job.done == job.width * job.height
        if finished:
            with self._lock:
                visitor = self._visitors.get(client)
                if visitor is not None and visitor.job is job:
                    visitor.job = None
                    if visitor.version == job.version:
                        visitor.shown = job.done
            if visitor is not None:
                self._send(client, self._picture(job))
        spent = max(self._clock() - start, 1e-9)
        job.seconds += spent
        if finished:  # of whole pictures: bands of sky are many times as fast as bands of what is looked at
            self._speed += 0.5 * (job.done / job.seconds - self._speed)
        return spent

    def _choose(self) -> tuple[int, _Job] | None:
        """Quick pictures first, then pages in turn."""
        with self._lock:
            waiting = [(client, job) for client, visitor in self._visitors.items() if (job := self._job(visitor))]
            if not waiting:
                return None
            client, job = next((x for x in waiting if x[1].quick), waiting[0])
            self._visitors[client] = self._visitors.pop(client)  # to the end of the queue
            return client, job

    def _job(self, visitor: _Visitor) -> _Job | None:
        """What a page is to be shown next."""
        job = visitor.job
        if job is not None and not (job.version == visitor.version or job.quick):
            job = visitor.job = None
        if job is not None:
            return job
        view, settings = visitor.view, self.settings
        scale = min(1.0, settings.width / view.width)
        full = max(1, round(view.width * scale)) * max(1, round(view.height * scale))
        quick = min(full, max(LEAST_PIXELS, int(self._speed / settings.frames_per_second)))
        if visitor.shown == 0:
            pixels = quick
        elif self._clock() - visitor.moved < REST_SECONDS:
            return None
        elif visitor.shown < full:
            pixels = 4 * visitor.shown if 8 * visitor.shown < full else full
        elif visitor.outdated:
            pixels = full
        else:
            return None
        if pixels == full:
            visitor.outdated = False
            width, height = max(1, round(view.width * scale)), max(1, round(view.height * scale))
        else:
            width = max(1, round(math.sqrt(pixels * view.width / view.height)))
            height = max(1, round(pixels / width))
        visitor.job = _Job(view, visitor.version, settings, width, height, quick=visitor.shown == 0)
        return visitor.job

    def _render_band(self, job: _Job, render: Render, device: torch.device) -> None:
        start = self._clock()
        rays = max(LEAST_BAND, int(min(self._speed, self._band_speed) * BAND_SECONDS))
        index = torch.arange(job.done, min(job.done + rays, job.width * job.height), device=device)
        view = job.view
        camera = camera_of_page(view.fov, view.width / view.height, job.width, job.height)
        pixels = torch.stack((index % job.width, index.div(job.width, rounding_mode="floor")), dim=-1)
        c2w = view.c2w.to(device)
        rays_o, rays_d = pixel_rays(c2w, camera, pixels)
        background = torch.tensor(job.settings.background, device=device)
        rendered = render(rays_o, rays_d, background)
        job.parts.append(RenderedPixels(*(column.detach().float().cpu() for column in rendered)))  # waits for a GPU
        job.cosines.append(-(rays_d * c2w[:3, 2]).sum(-1).cpu())
        job.done += len(index)
        self._band_speed = len(index) / max(self._clock() - start, 1e-6)

    def _picture(self, job: _Job) -> Picture:
        x, y, z = self._box.T
        corners = torch.cartesian_prod(x, y, z)
        centre, eye = self._box.mean(0), job.view.c2w[:3, 3]
        reach = (corners - centre).norm(dim=-1).max()
        away = (eye - centre).norm()
        depths = torch.stack(((away - reach).clamp(min=0.0), away + reach))
        joined = RenderedPixels.join(job.parts)
        return make_picture(joined, torch.cat(job.cosines), job.settings.output, job.height, job.width, depths)
