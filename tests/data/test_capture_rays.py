"""Round trips: cameras that a test wrote in each format are read back to the rays that the format's own projection has.

A point that the format's equations put on a pixel must lie on our ray through that pixel, in the capture's coordinates.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from nerf_metal.data import Scene, load_scene
from nerf_metal.data.cameras import pixel_rays
from nerf_metal.data.load import READERS
from tests.data.written import Shot, ring, write_blender, write_colmap, write_llff, write_transforms

TOLERANCE = 1e-5  # of a unit direction: float32 poses, and Newton's steps of a distortion
CENTRE = (40.0, -7.0, 3.0)  # a capture's origin is anywhere
WIDE = {"k1": 0.06, "k2": -0.08, "k3": 0.01, "k4": 0.02, "p1": -1e-3, "p2": 2e-3}


def _lenses(shots: list[Shot], coefficients: Sequence[str]) -> list[Shot]:
    """Every camera another: size, focal lengths, principal point off the middle, distortion."""
    for i, shot in enumerate(shots):
        shot.size = (12 + i, 8 + i // 2)
        shot.lens = {"fx": 9.0 + 0.1 * i, "fy": 9.5 - 0.1 * i, "cx": 5.2 + 0.3 * i, "cy": 4.7}
        shot.lens |= {key: WIDE[key] * (1 + 0.1 * i) for key in coefficients}
    return shots


def _assert_rays(scene: Scene, shots: Sequence[Shot], centre: Sequence[float] = CENTRE, shrink: int = 1) -> None:
    """Every shot is in one of the splits, with its own photograph, and its rays meet the points."""
    points = np.random.default_rng(0).uniform(-1.2, 1.2, (300, 3)) + centre
    back = torch.linalg.inv(scene.capture_to_scene).numpy()
    seen = set()
    for split in scene.splits.values():
        for i, name in enumerate(split.names):
            number = next(n for n, shot in enumerate(shots) if Path(name).name == Path(shot.name).stem)
            seen.add(number)
            assert set(split.image(i)[..., :3].unique().tolist()) == {number}
            pixels = shots[number].project(points) / shrink
            height, width = split.sizes[i].tolist()
            assert (width, height) == tuple(length // shrink for length in shots[number].size)
            inside = ((pixels > 0) & (pixels < (width, height))).all(1)
            assert inside.sum() > 30
            # (0, 0) is the middle of the first pixel for us, its corner for the formats
            o, d = pixel_rays(split.c2w[i], split.camera(i), torch.from_numpy(pixels[inside] - 0.5))
            origin = o.double().numpy() @ back[:3, :3].T + back[:3, 3]
            direction = d.double().numpy() @ back[:3, :3].T
            direction /= np.linalg.norm(direction, axis=1, keepdims=True)
            to_point = points[inside] - origin
            to_point /= np.linalg.norm(to_point, axis=1, keepdims=True)
            np.testing.assert_allclose(direction, to_point, atol=TOLERANCE, rtol=0)
            np.testing.assert_allclose(origin[0], shots[number].opengl[:3, 3], atol=TOLERANCE * 3, rtol=0)
    assert seen == set(range(len(shots)))


def test_transforms(tmp_path: Path) -> None:
    shots = _lenses(ring(9, centre=CENTRE), list(WIDE))
    _assert_rays(load_scene(write_transforms(tmp_path, shots), hold_out=3), shots)


def test_transforms_as_nerfstudio_saves_them(tmp_path: Path) -> None:
    """Turned, shifted, then scaled: the capture's coordinates are those before that."""
    shots = _lenses(ring(9, centre=CENTRE), ["k1", "p2"])
    applied = np.array([[0.0, 1.0, 0.0, 2.0], [1.0, 0.0, 0.0, -3.0], [0.0, 0.0, -1.0, 5.0], [0.0, 0.0, 0.0, 1.0]])
    saved = np.diag([0.25, 0.25, 0.25, 1.0]) @ applied
    top = {"applied_transform": applied[:3].tolist(), "applied_scale": 0.25, "camera_model": "OPENCV"}
    _assert_rays(load_scene(write_transforms(tmp_path, shots, saved, **top)), shots)


@pytest.mark.parametrize("model", ["SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV"])
@pytest.mark.parametrize("text", [False, True], ids=["binary", "text"])
def test_colmap(tmp_path: Path, model: str, text: bool) -> None:
    coefficients = {"SIMPLE_RADIAL": ["k1"], "RADIAL": ["k1", "k2"], "OPENCV": ["k1", "k2", "p1", "p2"]}
    shots = _lenses(ring(9, centre=CENTRE), coefficients.get(model, []))
    for shot in shots:
        shot.model = model
        if model not in ("PINHOLE", "OPENCV"):
            shot.lens["fy"] = shot.lens["fx"]
    _assert_rays(load_scene(write_colmap(tmp_path, shots, text=text)), shots)


@pytest.mark.parametrize("shrink", [1, 2])
def test_llff(tmp_path: Path, shrink: int) -> None:
    shots = ring(9, centre=CENTRE)
    for i, shot in enumerate(shots):
        shot.lens["fx"] = shot.lens["fy"] = 9.0 + 0.2 * i
    _assert_rays(load_scene(write_llff(tmp_path, shots, shrink)), shots, shrink=shrink)


def test_blender(tmp_path: Path) -> None:
    shots = ring(9, radius=4.0)
    _assert_rays(load_scene(write_blender(tmp_path, shots)), shots, centre=(0.0, 0.0, 0.0))


@pytest.mark.parametrize("name", [name for name in READERS if name != "blender"])
def test_reduced_photographs_keep_their_rays(tmp_path: Path, name: str) -> None:
    shots = ring(5, centre=CENTRE)
    {"transforms": write_transforms, "colmap": write_colmap, "llff": write_llff}[name](tmp_path, shots)
    _assert_rays(load_scene(tmp_path, downscale=2), shots, shrink=2)
