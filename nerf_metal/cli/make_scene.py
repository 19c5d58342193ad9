"""``nerf-metal make-scene``: write the built-in scene as a folder in NeRF-synthetic format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from nerf_metal.cli.arguments import read_options


@dataclass(frozen=True)
class SceneOptions:
    """Ray-trace the built-in scene and write it in NeRF-synthetic (Blender) format."""

    dir: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """Folder to write the scene to."""
    resolution: int = 200  # half a minute on two cores; 800 is the NeRF-synthetic size
    """Width and height of the images, in pixels."""
    train_views: int = 100  # as many as NeRF-synthetic scenes have
    """Number of training views."""
    test_views: int = 20
    """Number of test views."""
    seed: int = 0
    """Seed of the random camera positions."""
    overwrite: bool = False
    """Replace a scene that is already in the folder."""


def run(args: Sequence[str]) -> int:
    """Run the command and return 0."""
    options = read_options(SceneOptions, "make-scene", args)

    # Torch is imported from here on, so that help and wrong options are answered at once.
    from nerf_metal.data import make_embedded_scene, write_scene

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
