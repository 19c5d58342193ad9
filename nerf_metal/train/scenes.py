"""The scene that a run's options name."""

from __future__ import annotations

from pathlib import Path

from nerf_metal.data import Scene, load_scene, make_embedded_scene
from nerf_metal.train.options import TrainConfig
from nerf_metal.util.errors import InputError

EMBEDDED_WIDTH = 800
"""Pixels of the package's scene at ``--downscale 1``, as wide as the NeRF-synthetic scenes."""
EMBEDDED_DOWNSCALE = 4
"""Where none is given: 200 x 200 pixels take seconds to make, 800 x 800 minutes."""

IMAGE_SHARE = 0.5
"""Of ``--max-memory``, for photographs: weights and activations have the rest."""


def open_scene(config: TrainConfig, splits: tuple[str, ...] = ("train", "test")) -> Scene:
    """Load ``config.data``, or make the package's own scene, at ``config.downscale``.

    Raises:
        InputError: the data cannot be used, or the pictures would be smaller than 8 pixels.
    """
    if config.data is not None:
        return load_scene(
            config.data,
            format=config.format,
            splits=splits,
            downscale=config.downscale,
            hold_out=config.hold_out,
            orient=config.orient,
            scene_scale=config.scene_scale,
            cascades=config.cascades,
            max_image_bytes=int(IMAGE_SHARE * config.max_memory * 1e9),
        )
    width = EMBEDDED_WIDTH // (config.downscale or EMBEDDED_DOWNSCALE)
    if width < 8:
        raise InputError(
            f"[train] --downscale must leave at least 8 pixels of {EMBEDDED_WIDTH}, got {config.downscale}; "
            f"use at most {EMBEDDED_WIDTH // 8}"
        )
    return make_embedded_scene(resolution=width, splits=splits)


def open_scene_of(run: Path, config: TrainConfig, splits: tuple[str, ...] = ("train", "test")) -> Scene:
    """The scene that a run was trained on.

    Raises:
        InputError: it is not where it was, or cannot be used any more.
    """
    if config.data is not None and not Path(config.data).exists():
        raise InputError(
            f"[run] the images of {run} must be at {config.data}, got nothing there; put them back, or write where "
            f'they are as "data" into {run / "config.json"}'
        )
    return open_scene(config, splits=splits)
