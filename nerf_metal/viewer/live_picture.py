"""The live picture: what is rendered next for which page, and how sharp it is.

Pages ask for pictures from any thread (:meth:`LivePicture.look`). One thread renders them, one chunk of rays at a time
(:meth:`LivePicture.work`). Only the newest viewpoint of a page counts. While it moves, a picture is as large as the
measured speed allows within the time of a frame. At rest, each next picture has twice the width, up to the width of the
page. A sharp picture is dropped when its viewpoint is out of date. A quick picture is always finished: otherwise a page
that moves without pause would show nothing.
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
"""A page is at rest after this time without a new viewpoint. A moving mouse sends one every few milliseconds, and
shorter pauses are no rest."""
CHUNK_SECONDS = 0.04
"""The rendering time of a chunk of rays: short enough to interrupt a picture without a visible delay, and long enough
that the launch costs little."""
LEAST_CHUNK = 512
"""The fewest rays of a chunk: fewer rays take as long."""
LEAST_PIXELS = 6144
"""The fewest pixels of a picture, 96 x 64: a smaller one shows nothing recognisable, and takes as long on a GPU or a
busy machine."""
FIRST_SPEED = 20_000.0
"""The assumed rays per second before any was measured: the speed of a slow laptop."""


@dataclass(frozen=True)
class Viewpoint:
    """The camera of a page.

    Attributes:
        c2w: pose (camera-to-world) ``[4, 4]``.
        fov: vertical field of view, radians.
        width: width of the page, pixels.
        height: height of the page, pixels.
    """

    c2w: torch.Tensor
    fov: float
    width: int
    height: int


@dataclass(frozen=True)
class Settings:
    """How pictures are rendered.

    Attributes:
        output: what a picture shows.
        background: background colour, RGB in [0, 1].
        width: greatest width of a picture, pixels.
        frames_per_second: pictures per second while the camera moves.
    """

    output: Output = "color"
    background: tuple[float, float, float] = (1.0, 1.0, 1.0)
    width: int = 1024
    frames_per_second: float = 12.0


@dataclass
class _Job:
    """A picture that is being rendered."""

    viewpoint: Viewpoint
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
class _Page:
    """An open page.

    Attributes:
        viewpoint: the newest viewpoint.
        moved: when the newest viewpoint came, seconds.
        version: the number of the newest viewpoint and settings.
        shown: the pixels of the largest picture of that version that was sent; 0 if none was.
        outdated: whether the field has changed since then.
        job: the picture that is being rendered for the page.
    """

    viewpoint: Viewpoint
    moved: float
    version: int = 0
    shown: int = 0
    outdated: bool = False
    job: _Job | None = None


class LivePicture:
    """Renders pictures for all open pages; see the module.

    Args:
        send: takes a page's number and a picture for it. It must not wait.
        box: the scene's box ``[2, 3]``; its distance gives the range of the depth colours.
        clock: returns the time, seconds.

    Attributes:
        settings: how pictures are rendered.
        asked: is set when a page asks for a picture.
    """

    def __init__(
        self, send: Callable[[int, Picture], None], box: torch.Tensor, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Start without pages."""
        self._send, self._clock = send, clock
        self._box = box.detach().cpu()
        self._lock = threading.Lock()
        self._pages: dict[int, _Page] = {}
        self._speed = self._chunk_speed = FIRST_SPEED  # rays per second of whole pictures, and of the last chunk
        self.settings = Settings()
        self.asked = threading.Event()

    def look(self, client: int, viewpoint: Viewpoint) -> None:
        """Take a page's new viewpoint: the page was opened, moved or resized."""
        with self._lock:
            page = self._pages.setdefault(client, _Page(viewpoint, self._clock()))
            page.viewpoint, page.moved = viewpoint, self._clock()
            page.version, page.shown = page.version + 1, 0
        self.asked.set()

    def leave(self, client: int) -> None:
        """Forget a page that was closed."""
        with self._lock:
            self._pages.pop(client, None)

    def change(self, settings: Settings) -> None:
        """Render all pictures again with other settings."""
        with self._lock:
            self.settings = settings
            for page in self._pages.values():
                page.version, page.shown = page.version + 1, 0
        self.asked.set()

    def outdate(self) -> None:
        """Render pages at rest again, at their present sharpness, because the field has changed."""
        with self._lock:
            for page in self._pages.values():
                page.outdated = True

    @property
    def moving(self) -> bool:
        """Whether the camera of any page moves."""
        with self._lock:
            return any(self._clock() - page.moved < REST_SECONDS for page in self._pages.values())

    def work(self, render: Render, device: torch.device) -> float:
        """Render one chunk of rays for the page whose turn it is. Send the picture after its last chunk.

        Args:
            render: renders rays, as a model's ``render`` does.
            device: the device of the rays.

        Returns:
            The seconds that this took, or 0 if no page waits for a picture.
        """
        chosen = self._choose()
        if chosen is None:
            return 0.0
        client, job = chosen
        start = self._clock()
        self._render_chunk(job, render, device)
        finished = job.done == job.width * job.height
        if finished:
            with self._lock:
                page = self._pages.get(client)
                if page is not None and page.job is job:
                    page.job = None
                    if page.version == job.version:
                        page.shown = job.done
            if page is not None:
                self._send(client, self._picture(job))
        spent = max(self._clock() - start, 1e-9)
        job.seconds += spent
        if finished:  # from whole pictures: chunks of empty sky are many times faster than chunks of the object
            self._speed += 0.5 * (job.done / job.seconds - self._speed)
        return spent

    def _choose(self) -> tuple[int, _Job] | None:
        """Choose the next picture: quick pictures come first, then the pages take turns."""
        with self._lock:
            waiting = [(client, job) for client, page in self._pages.items() if (job := self._job(page))]
            if not waiting:
                return None
            client, job = next((x for x in waiting if x[1].quick), waiting[0])
            self._pages[client] = self._pages.pop(client)  # to the end of the queue
            return client, job

    def _job(self, page: _Page) -> _Job | None:
        """Return the picture to render next for a page, or None if it needs none."""
        job = page.job
        if job is not None and not (job.version == page.version or job.quick):
            job = page.job = None
        if job is not None:
            return job
        viewpoint, settings = page.viewpoint, self.settings
        scale = min(1.0, settings.width / viewpoint.width)
        full = max(1, round(viewpoint.width * scale)) * max(1, round(viewpoint.height * scale))
        quick = min(full, max(LEAST_PIXELS, int(self._speed / settings.frames_per_second)))
        if page.shown == 0:
            pixels = quick
        elif self._clock() - page.moved < REST_SECONDS:
            return None
        elif page.shown < full:
            pixels = 4 * page.shown if 8 * page.shown < full else full
        elif page.outdated:
            pixels = full
        else:
            return None
        if pixels == full:
            page.outdated = False
            width, height = max(1, round(viewpoint.width * scale)), max(1, round(viewpoint.height * scale))
        else:
            width = max(1, round(math.sqrt(pixels * viewpoint.width / viewpoint.height)))
            height = max(1, round(pixels / width))
        page.job = _Job(viewpoint, page.version, settings, width, height, quick=page.shown == 0)
        return page.job

    def _render_chunk(self, job: _Job, render: Render, device: torch.device) -> None:
        start = self._clock()
        rays = max(LEAST_CHUNK, int(min(self._speed, self._chunk_speed) * CHUNK_SECONDS))
        index = torch.arange(job.done, min(job.done + rays, job.width * job.height), device=device)
        viewpoint = job.viewpoint
        camera = camera_of_page(viewpoint.fov, viewpoint.width / viewpoint.height, job.width, job.height)
        pixels = torch.stack((index % job.width, index.div(job.width, rounding_mode="floor")), dim=-1)
        c2w = viewpoint.c2w.to(device)
        rays_o, rays_d = pixel_rays(c2w, camera, pixels)
        background = torch.tensor(job.settings.background, device=device)
        rendered = render(rays_o, rays_d, background)
        job.parts.append(RenderedPixels(*(column.detach().float().cpu() for column in rendered)))  # waits for the GPU
        job.cosines.append(-(rays_d * c2w[:3, 2]).sum(-1).cpu())
        job.done += len(index)
        self._chunk_speed = len(index) / max(self._clock() - start, 1e-6)

    def _picture(self, job: _Job) -> Picture:
        x, y, z = self._box.T
        corners = torch.cartesian_prod(x, y, z)
        centre, eye = self._box.mean(0), job.viewpoint.c2w[:3, 3]
        reach = (corners - centre).norm(dim=-1).max()
        away = (eye - centre).norm()
        depths = torch.stack(((away - reach).clamp(min=0.0), away + reach))
        joined = RenderedPixels.join(job.parts)
        return make_picture(joined, torch.cat(job.cosines), job.settings.output, job.height, job.width, depths)
