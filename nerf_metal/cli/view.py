"""``nerf-metal view``: move through a run in a web page."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from nerf_metal.cli.opened import open_model
from nerf_metal.train.options import Backend, TrainConfig
from nerf_metal.util.errors import InputError

WIDTH = 1024
"""Most pixels of a picture's row to begin with: sharp in a window of usual size."""


@dataclass(frozen=True)
class ViewOptions:
    """Serve a page that shows a run's field as one moves through it, with the capture's cameras; paths that one makes
    there go into RUN/camera_paths, for nerf-metal render."""

    run: Annotated[str, tyro.conf.Positional]
    """Run folder, as nerf-metal train made it."""
    host: str = TrainConfig.view_host
    """Address to serve on; 0.0.0.0 lets the whole network in."""
    port: int = TrainConfig.view_port
    """Port of the page; the next free one where it is taken."""
    checkpoint: Literal["last", "best"] = "last"
    """Whose weights: the last whole checkpoint, or the one with the greatest PSNR."""
    device: Literal["auto", "cpu", "mps", "cuda"] = "auto"
    """Where to render. auto: mps, else cuda, else cpu."""
    backend: Backend = "auto"
    """Who computes what has a kernel."""


def run(args: Sequence[str]) -> int:
    """Serve as ``args`` say, until Ctrl-C; returns 0."""
    options = tyro.cli(ViewOptions, prog="nerf-metal view", args=list(args))

    from nerf_metal.train.interrupt import StopRequest
    from nerf_metal.train.scenes import open_scene_of
    from nerf_metal.util.extras import require
    from nerf_metal.viewer.viewer import Viewer

    require("viser", extra="view", command="view")  # before the seconds that loading takes
    folder, checkpoint, model, _ = open_model(
        "view", options.run, options.device, options.backend, options.checkpoint
    )
    try:
        scene = open_scene_of(folder.path, checkpoint.config)
    except InputError as error:  # the photographs may be elsewhere by now: the field is not
        print(f"note: no cameras are shown: {error}", file=sys.stderr)
        scene = None
    model.reserve(sum(split.image_bytes for split in scene.splits.values()) if scene else 0)
    with StopRequest() as stop:
        viewer = Viewer(
            scene,
            scene.aabb if scene else model.box,
            folder.path,
            background=checkpoint.config.background,
            width=WIDTH,
            host=options.host,
            port=options.port,
            command="view",
        )
        try:
            for note in viewer.notes():
                print(f"note: {note}", file=sys.stderr)
            print(f"open {viewer.address} (Ctrl-C ends)", flush=True)
            viewer.serve(model, stop)
        finally:
            viewer.close()
    return 0
