"""Loading of the scene that the options of a run name."""

from __future__ import annotations

from pathlib import Path

from nerf_metal.data import Scene, load_scene, make_embedded_scene
from nerf_metal.train.options import TrainConfig
from nerf_metal.util.errors import InputError

EMBEDDED_WIDTH = 800
"""Width of the built-in scene at ``--downscale 1``, pixels. The NeRF-synthetic scenes have the same width."""
EMBEDDED_DOWNSCALE = 4
"""Default ``--downscale`` of the built-in scene: 200 x 200 pixels take seconds to make, 800 x 800 pixels minutes."""

IMAGE_SHARE = 0.5
"""Fraction of ``--max-memory`` for photographs. The rest is for weights and activations."""


def open_scene(config: TrainConfig, splits: tuple[str, ...] = ("train", "test")) -> Scene:
    """Load the scene ``config.data``, or make the built-in scene, at ``config.downscale``.

    Args:
        config: options of the run.
        splits: names of the splits to load.

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
            f"[train] --downscale must be at most {EMBEDDED_WIDTH // 8} for the built-in scene, got "
            f"{config.downscale}; the pictures need at least 8 of {EMBEDDED_WIDTH} pixels"
        )
    return make_embedded_scene(resolution=width, splits=splits)


def open_scene_of(run: Path, config: TrainConfig, splits: tuple[str, ...] = ("train", "test")) -> Scene:
    """Load the scene that a run was trained on.

    Args:
        run: path of the run folder.
        config: options of the run.
        splits: names of the splits to load.

    Raises:
        InputError: the images were moved or deleted, or cannot be used any more.
    """
    if config.data is not None and not Path(config.data).exists():
        raise InputError(
            f"[run] the images of {run} must be at {config.data}, got nothing there; put them back, or correct "
            f'"data" in {run / "config.json"}'
        )
    return open_scene(config, splits=splits)
