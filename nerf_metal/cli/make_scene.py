"""``nerf-metal make-scene``: write the scene of the package as a NeRF-synthetic folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro


@dataclass(frozen=True)
class SceneOptions:
    """Ray-trace the scene of the package and write it in NeRF-synthetic (Blender) format."""

    dir: Annotated[str, tyro.conf.Positional]
    """Folder to write."""
    resolution: int = 200  # half a minute on two cores; 800 is the NeRF-synthetic size
    """Width and height of the images in pixels."""
    train_views: int = 100  # as many as NeRF-synthetic scenes have
    """Views to train on."""
    test_views: int = 20
    """Views to measure on."""
    seed: int = 0
    """Of the cameras' places."""
    overwrite: bool = False
    """Write over a scene that is there."""


def run(args: Sequence[str]) -> int:
    """Write the scene as ``args`` say; returns 0."""
    options = tyro.cli(SceneOptions, prog="nerf-metal make-scene", args=list(args))
    from nerf_metal.data import make_embedded_scene, write_scene  # torch: after help and bad options

    scene = make_embedded_scene(
        resolution=options.resolution,
        train_views=options.train_views,
        test_views=options.test_views,
        seed=options.seed,
    )
    write_scene(scene, options.dir, overwrite=options.overwrite)
    print(f"{options.train_views} train and {options.test_views} test views written to {options.dir}")
    print(f"train on it with: nerf-metal train --data {options.dir} --downscale 1")
    return 0
