"""The presets: the options that each one sets. The defaults of the options are the preset ``fast``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "fast": {},
    # A classic NeRF that two cores can train: small networks, few samples, 100 x 100 pixels.
    "small": {
        "field": "frequency",
        "max_seconds": 100.0,
        "downscale": 8,  # of 800 x 800: as fine as 100 s on two cores can learn
        "hidden_width": 64,  # small enough for ten thousand rays a second on two cores
        "ema_decay": 0.0,
        "lr": 1e-2,  # stable with small networks: 2.8 dB more than 2e-3 after 1200 steps, 2e-2 is no better
        "lr_decay": 0.05,
    },
    # Mildenhall et al. 2020, section 5.3, with the authors' Lego configuration for what the paper does not give. The
    # density uses softplus, because with ReLU it can become 0 everywhere. The background is white as in the figures.
    "classic": {
        "field": "frequency",
        "steps": 250_000,
        "max_seconds": None,
        "downscale": 2,
        "background": "white",
        "tight_box": False,
        "hidden_width": 256,
        "depth": 8,
        "skip": 4,
        "position_bands": 10,
        "direction_bands": 4,
        "batch_rays": 4096,
        "num_samples": 64,
        "num_importance": 128,
        "ema_decay": 0.0,
        "lr": 5e-4,
        "lr_decay": 0.1,
        "lr_decay_steps": 250_000,
        "warmup_steps": 500,
        "clip_norm": 0.0,
        "eval_every_seconds": 600.0,
        "eval_views": 4,
    },
    # Exactly the run that failed: 32 hours on MPS, 9.8 dB at best and 4.3 dB at the end. Parameters that are not known
    # are those of a plain NeRF: ReLU densities, a white background, no warm-up, no clipping and no average.
    "baseline": {
        "field": "frequency",
        "epochs": 500,
        "steps_per_epoch": 500,
        "max_seconds": None,
        "background": "white",
        "tight_box": False,
        "hidden_width": 256,
        "depth": 10,
        "skip": 4,
        "position_bands": 10,
        "direction_bands": 4,
        "density_activation": "relu",
        "batch_rays": 2048,
        "num_samples": 64,
        "num_importance": 128,
        "ema_decay": 0.0,
        "lr": 5e-4,
        "lr_decay": 0.1,
        "lr_decay_steps": 250_000,
        "warmup_steps": 0,
        "clip_norm": 0.0,
        "eval_every_seconds": None,  # every 50 epochs, as in that run
        "watchdog": "warn",  # reports faults without recovery, so that the failure can be reproduced
    },
    # The repair of that run: its plan (lr 1e-4, clipping, 384 wide, 8 levels, "stability measures") as options.
    "stable": {
        "field": "frequency",
        "epochs": 500,
        "steps_per_epoch": 500,
        "max_seconds": None,
        "background": "random",  # a field that learns the background colour cannot fit all of them
        "hidden_width": 384,
        "depth": 10,
        "skip": 4,
        "position_bands": 8,
        "direction_bands": 4,
        "density_activation": "softplus",
        "batch_rays": 2048,
        "num_samples": 64,
        "num_importance": 128,
        "ema_decay": 0.999,  # an average over a thousand steps, two epochs: a single bad step hardly changes a picture
        "lr": 1e-4,
        "lr_decay": 0.1,
        "lr_decay_steps": 250_000,
        "warmup_steps": 500,
        "clip_norm": 1.0,
        "eval_every_seconds": None,
        "watchdog": "rollback",
    },
}
