"""Whole runs of the trainer through the metal backend, on the double: what a Mac's GPU is asked to do, step by step."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from nerf_metal.kernels import extension
from nerf_metal.models import hash_grid
from nerf_metal.train.loop import train
from nerf_metal.train.options import TrainConfig
from nerf_metal.train.run_folder import RunFolder
from tests.kernels.double import on_double

pytestmark = pytest.mark.metal_encoding

CPU = torch.device("cpu")


@pytest.fixture
def fast_config(tiny_config: TrainConfig) -> TrainConfig:
    """The preset fast so small that SIMD-groups run lane by lane in seconds."""
    return TrainConfig(
        out=tiny_config.out,
        steps=18,  # the grid is updated after 16
        max_seconds=None,
        levels=4,
        log2_table_size=10,
        base_resolution=4,
        finest_resolution=16,
        hidden_width=16,
        grid_resolution=16,
        march_steps=32,
        batch_samples=512,
        warmup_steps=2,
        eval_views=1,
        steps_per_epoch=9,
        device="cpu",
        quiet=True,
    )


def final_psnr(config: TrainConfig, scene, backend: str) -> float:
    """Of the last evaluation of a run in a folder of its own."""
    config = dataclasses.replace(config, backend=backend, out=f"{config.out}-{backend}")
    return train(config, scene, RunFolder.create(config, scene.name), CPU).evaluation.psnr


def bounded(prepare):
    """As on a GPU: marched samples have a bounded room, and one number is read back a step."""

    def wrapped(self, *args, **kwargs):
        optimizer = prepare(self, *args, **kwargs)
        self._bounded = True
        return optimizer

    return wrapped


@pytest.mark.parametrize("method", ["hash_grid", "coarse_fine"])
def test_a_run_on_metal_is_the_hosts(cube_scene, fast_config, tiny_config, model, monkeypatch) -> None:
    monkeypatch.setattr(hash_grid.HashGridModel, "prepare", bounded(hash_grid.HashGridModel.prepare))
    config = fast_config if model == "hash_grid" else dataclasses.replace(tiny_config, steps=6, steps_per_epoch=3)
    host = final_psnr(config, cube_scene, "host")
    with on_double() as double:
        metal = final_psnr(config, cube_scene, "metal")
        used = {entry["name"] for entry in double.calls("get_kernel_function")}
    assert math.isfinite(metal)
    # Sums in other orders, through the steps of an optimizer that divides by their size: a fiftieth of a decibel.
    assert metal == pytest.approx(host, abs=0.02)
    table = extension.load().kernel_table()
    libraries = {table[name][0] for name in used}
    if model == "hash_grid":
        assert libraries == {"adam", "composite", "hashgrid", "mlp", "occupancy", "sh", "traverse", "visibility"}
    else:
        assert libraries == {"composite", "importance", "march"}
