"""Training: options, the loop, checkpoints, the watchdog, statistics, evaluation and the run folder.

The public names are loaded when they are first used, because ``--help`` needs the options but must not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nerf_metal.util.lazy import lazy_names

if TYPE_CHECKING:
    from nerf_metal.train.evaluation import evaluate
    from nerf_metal.train.loading import load_model
    from nerf_metal.train.loop import TrainResult, train
    from nerf_metal.train.observer import Observer
    from nerf_metal.train.options import TrainConfig, preset_config
    from nerf_metal.train.run_folder import RunFolder
    from nerf_metal.train.scenes import open_scene

__all__ = [
    "Observer",
    "RunFolder",
    "TrainConfig",
    "TrainResult",
    "evaluate",
    "load_model",
    "open_scene",
    "preset_config",
    "train",
]

_PLACES = {
    "Observer": "observer",
    "RunFolder": "run_folder",
    "TrainConfig": "options",
    "TrainResult": "loop",
    "evaluate": "evaluation",
    "load_model": "loading",
    "open_scene": "scenes",
    "preset_config": "options",
    "train": "loop",
}


if not TYPE_CHECKING:  # a type checker would take any name for one of the module's
    __getattr__ = lazy_names(__name__, _PLACES)
