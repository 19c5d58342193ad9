"""``nerf-metal view``: look at a run in a web browser."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from nerf_metal.cli.arguments import read_options
from nerf_metal.cli.opened import RunOptions, open_model
from nerf_metal.train.options import TrainConfig
from nerf_metal.util.errors import InputError

WIDTH = 1024
"""Most pixels in a row of a picture when the page opens: sharp in a window of usual size."""


@dataclass(frozen=True)
class ViewOptions(RunOptions):
    """Serve a web page that shows a trained scene, and the cameras, from any side.

    Camera paths made there are saved in RUN/camera_paths for nerf-metal render.
    """

    host: str = TrainConfig.view_host
    """Address to serve on. 0.0.0.0 makes the page visible in the whole network."""
    port: int = TrainConfig.view_port
    """Port of the page. If it is taken, the next free port is used."""


def run(args: Sequence[str]) -> int:
    """Run the command until Ctrl-C and return 0."""
    options = read_options(ViewOptions, "view", args)

    from nerf_metal.train.interrupt import StopRequest
    from nerf_metal.train.scenes import open_scene_of
    from nerf_metal.util.extras import require
    from nerf_metal.viewer.viewer import Viewer

    require("viser", extra="view", command="view")  # before the seconds that loading takes
    folder, checkpoint, model, _ = open_model("view", options)
    try:
        scene = open_scene_of(folder.path, checkpoint.config)
    except InputError as error:  # the photographs may have moved; the weights have not
        print(f"note: the page shows no cameras: {error}", file=sys.stderr)
        scene = None
    image_bytes = sum(split.image_bytes for split in scene.splits.values()) if scene else 0
    model.limit_memory(checkpoint.config.max_memory, image_bytes, training=False)
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
