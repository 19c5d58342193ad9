"""Fixtures shared by the tests: a scene small enough to train on in seconds."""

import dataclasses
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from nerf_metal import report
from nerf_metal.data.cameras import Intrinsics, image_rays, look_at
from nerf_metal.data.scene import Scene, Split
from nerf_metal.reference import intersect_rays
from nerf_metal.train.options import TrainConfig, preset_config

torch.set_num_threads(1)  # tiny tensors: a second thread gains nothing, and costs much on a busy machine
CUBE = torch.tensor([[-0.5, -0.4, -0.6], [0.5, 0.4, 0.6]])


def cube_split(name: str, views: int, size: int, turn: float) -> Split:
    """Views from a circle around an opaque cube whose colour is the position on its surface."""
    intrinsics = Intrinsics.from_fov_x(0.7, size, size)
    angle = turn + torch.arange(views) * (2 * torch.pi / views)
    eyes = torch.stack((4 * angle.cos(), 4 * angle.sin(), 1.0 + 0.5 * (3 * angle).sin()), dim=-1)
    c2w = torch.stack([look_at(eye, (0.0, 0.0, 0.0), (0.0, 0.0, 1.0)) for eye in eyes])
    images = []
    for pose in c2w:
        rays_o, rays_d = image_rays(pose, intrinsics)
        bounds = intersect_rays(rays_o, rays_d, CUBE)
        color = (rays_o + bounds.t_min[:, None] * rays_d - CUBE[0]) / (CUBE[1] - CUBE[0])
        rgba = torch.cat((color.clamp(0, 1), bounds.hits[:, None].float()), dim=-1) * bounds.hits[:, None]
        images.append((rgba * 255).round().to(torch.uint8).view(size, size, 4))
    names = [f"{name}/{i}" for i in range(views)]
    return Split(name, torch.stack(images), c2w, intrinsics, names, has_alpha=True)


@pytest.fixture(scope="session")
def cube_scene() -> Scene:
    """12 train and 3 test views of the cube, 16 x 16, in a box of side 3."""
    splits = {"train": cube_split("train", 12, 16, 0.0), "test": cube_split("test", 3, 16, 0.3)}
    box = torch.tensor([[-1.5] * 3, [1.5] * 3])
    return Scene("cube", "test", splits, box, 2.0, 6.0, ["made for a test"])


@pytest.fixture
def tiny_config(tmp_path) -> TrainConfig:
    """A run of 40 steps that takes about a second."""
    return dataclasses.replace(
        preset_config("small"),
        out=str(tmp_path / "run"),
        steps=40,
        max_seconds=None,
        hidden_width=16,
        depth=2,
        position_bands=3,
        direction_bands=1,
        batch_rays=64,
        num_samples=8,
        num_importance=8,
        lr=5e-3,
        warmup_steps=0,
        eval_views=2,
        steps_per_epoch=20,
        device="cpu",
        quiet=True,
    )


@pytest.fixture
def plain_plots(monkeypatch):
    """A run's plots as one pixel each: drawing them takes as long as a small run."""

    def draw(path: Path) -> None:
        iio.imwrite(path, np.zeros((1, 1, 3), np.uint8))

    monkeypatch.setattr(report, "plot_losses", lambda path, *_: draw(path))
    monkeypatch.setattr(report, "plot_scores", lambda path, *_: draw(path))
