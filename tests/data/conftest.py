"""Scenes that several test files of this folder use."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from nerf_metal.data import Scene, make_embedded_scene


def _noise(height: int, width: int, channels: int, seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


@pytest.fixture(name="noise")
def noise_fixture() -> Callable[[int, int, int, int], NDArray[np.uint8]]:
    """The maker of the images in `folder`: height, width, channels, seed (the view's number)."""
    return _noise


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five training and two test views of 6x4 (width x height) noise."""
    root = tmp_path / "toy"
    for split, count in (("train", 5), ("test", 2)):
        (root / split).mkdir(parents=True)
        frames = []
        for i in range(count):
            Image.fromarray(_noise(4, 6, 4, i)).save(root / split / f"r_{i}.png")
            pose = np.eye(4)
            pose[0, 3] = i
            frames.append({"file_path": f"./{split}/r_{i}", "transform_matrix": pose.tolist()})
        meta = {"camera_angle_x": math.pi / 2, "frames": frames}
        (root / f"transforms_{split}.json").write_text(json.dumps(meta))
    return root


@pytest.fixture(scope="session")
def small() -> Scene:
    """The embedded scene, tiny."""
    return make_embedded_scene(resolution=16, train_views=3, test_views=6)
