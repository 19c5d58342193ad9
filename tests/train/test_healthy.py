"""No false alarm: ten healthy runs of the package's scene with as many seeds, and the watchdog is silent."""

import dataclasses

import pytest
import torch

from nerf_metal.train.loop import train
from nerf_metal.train.options import preset_config
from nerf_metal.train.run_folder import RunFolder
from nerf_metal.train.scenes import open_scene

SMALLER = {"batch_rays": 64, "num_samples": 16, "num_importance": 24}
RUNS = [
    *((seed, "fast", {"batch_samples": 4096, "log2_table_size": 14}, 5.0) for seed in range(4)),
    *((seed, "small", {"hidden_width": 32, "batch_rays": 128}, 5.0) for seed in range(4, 7)),
    # at its own rate of 1e-4 behind 500 steps of warm-up, so that it learns as slowly as it does in full size
    *((seed, "stable", {"hidden_width": 48, **SMALLER}, 1.0) for seed in range(7, 9)),
    (9, "baseline", {"hidden_width": 32, "background": "random", **SMALLER}, 1.0),
]
STEPS = {"fast": 640, "small": 640, "stable": 1040, "baseline": 1040}
"""Past the steps of a plateau, so that every fault could have been found."""
PLATEAU_STEPS = 500
"""Half of the default: sooner than a person's run would be called one."""


@pytest.fixture(scope="module")
def scene():
    """At 50 x 50 pixels: seconds to make."""
    return open_scene(dataclasses.replace(preset_config("fast"), downscale=16))


@pytest.mark.slow
@pytest.mark.usefixtures("plain_plots")
@pytest.mark.parametrize(("seed", "preset", "smaller", "better"), RUNS)
def test_healthy_runs_raise_nothing(seed, preset, smaller, better, scene, tmp_path):
    """Nothing is said from the first step to past the last that counts, and the run is better than blank."""
    config = dataclasses.replace(
        preset_config(preset),
        **{
            **smaller,
            "steps": STEPS[preset],
            "plateau_steps": PLATEAU_STEPS,
            "epochs": None,
            "max_seconds": None,
            "eval_every_seconds": None,
        },
        **{"steps_per_epoch": 200, "report_every": 1, "eval_views": 2, "downscale": 16},
        **{"seed": seed, "device": "cpu", "quiet": True, "out": str(tmp_path / "run")},
    )
    folder = RunFolder.create(config, scene.name)
    result = train(config, scene, folder, torch.device("cpu"))
    assert [line for line in folder.read_metrics() if line["event"] == "watchdog"] == []
    assert result.evaluation.psnr > result.evaluation.blank_psnr + better
