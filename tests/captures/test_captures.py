"""Real captures: counts, pairing, boxes that hold what was photographed, and the score of a blank page."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from nerf_metal.data import Scene, load_blender, load_scene
from nerf_metal.data.background import background_color, composite_over
from nerf_metal.data.cameras import project
from nerf_metal.data.load import READERS
from nerf_metal.data.poses import forward_facing
from nerf_metal.data.readers.colmap import read_colmap
from nerf_metal.data.readers.llff import read_llff
from nerf_metal.data.readers.reader import Reader
from nerf_metal.data.readers.transforms import read_transforms
from tests.captures.captures import capture_folder


def _positions(scene: Scene) -> torch.Tensor:
    return torch.cat([split.c2w[:, :3, 3] for split in scene.splits.values()])


def test_fox() -> None:
    scene = load_scene(
        capture_folder("fox"), downscale=60, splits=["test"]
    )  # 7 of 50: decoding takes a tenth of a second each
    assert len(read_transforms(capture_folder("fox")).frames) == 50
    assert len(scene.splits["test"]) == 7
    assert scene.notes[0].startswith("17 of 67 frames have no file: images/0005, images/0016, ")
    assert scene.cascades == 3  # aabb_scale 4
    camera = scene.splits["test"].camera(0)
    assert (camera.width, camera.height, camera.k1) == (18, 32, 0.0578421)
    assert camera.fl_x == pytest.approx(1375.52 / 60)
    assert 1.0 < _positions(scene).norm(dim=1).median() < 2.0  # near the box, not in its middle
    assert 0.02 < scene.near < 0.3 < scene.far


def test_fern() -> None:
    scene = load_scene(capture_folder("fern"), downscale=8)
    assert {name: len(split) for name, split in scene.splits.items()} == {"train": 17, "test": 3}
    assert scene.splits["test"].names == [f"images_8/image{i:03}" for i in (0, 8, 16)]
    camera = scene.splits["train"].camera(0)
    assert (camera.width, camera.height) == (63, 47)
    assert camera.fl_x == pytest.approx(3260.526 / 64, rel=1e-6)
    assert scene.cascades == 1
    assert (_positions(scene)[:, 1] < scene.aabb[0, 1]).all()  # the cameras stand before the box
    scale = np.cbrt(torch.linalg.det(scene.capture_to_scene[:3, :3]).item())
    assert scene.near / scale == pytest.approx(0.9 * 16.985296, rel=1e-5)


def test_tumbler() -> None:
    """Each photograph has its own focal length; most points are seen where the model says, and are in the box."""
    root = capture_folder("tumbler_colmap")
    scene = load_scene(root, downscale=20, splits=["test"])
    capture = read_colmap(root)
    assert (len(capture.frames), len(scene.splits["test"])) == (77, 10)
    assert scene.splits["test"].names[:3] == ["images/1", "images/18", "images/25"]
    assert capture.points is not None
    turn, shift = scene.capture_to_scene[:3, :3].float(), scene.capture_to_scene[:3, 3].float()
    points = torch.from_numpy(capture.points).float() @ turn.T + shift
    focal = {frame.name: frame.camera.fl_x for frame in capture.frames}
    split = scene.splits["test"]
    for i, name in enumerate(split.names):
        camera = split.camera(i)
        assert camera.fl_x == pytest.approx(focal[name] / 20)
        pixels, depth = project(split.c2w[i], camera, points)
        size = torch.tensor([camera.width, camera.height])
        assert ((pixels > -0.5) & (pixels < size - 0.5)).all(1).float().mean() > 0.3
        middle = ((pixels - 0.5 * size).abs() < 0.15 * size).all(1) & (depth > 0)
        assert (points[middle].abs() <= 1).all(1).float().mean() > 0.8
    # the table is level: half of all points lie on it
    assert (points[:, 2] - points[:, 2].median()).abs().quantile(0.4) < 0.03
    assert (_positions(scene)[:, 2] > points[:, 2].median()).all()


def test_tumbler_as_llff_has_the_same_cameras() -> None:
    """Rows are in the order of names (1, 10, 11 ...), as the photographs are."""
    root = capture_folder("tumbler_colmap")
    a, b = read_colmap(root), read_llff(root)
    assert [frame.image for frame in a.frames] == [frame.image for frame in b.frames]
    np.testing.assert_allclose(a.poses, b.poses, atol=1e-12)


def test_a_white_page_on_lego() -> None:
    """An all-white picture scores 9.48 dB on the 50 test views over white: what a failed run must not be proud of."""
    test = load_blender(capture_folder("nerf_synthetic/lego"), splits=["test"]).splits["test"]
    assert test.images.shape == (50, 800, 800, 4)
    assert test.names[:2] == ["test/r_0", "test/r_4"]
    assert test.intrinsics.fl_x == pytest.approx(1111.1110, abs=1e-3)
    psnrs = []
    for image in test.images:
        rgba = image.float() / 255.0
        truth = composite_over(rgba, background_color("white", rgba))
        psnrs.append(-10.0 * math.log10(float(((truth - 1.0) ** 2).mean())))
    assert np.mean(psnrs) == pytest.approx(9.48, abs=0.02)


@pytest.mark.parametrize(
    ("name", "format", "facing"),
    [
        ("fern", "llff", True),
        ("fox", "transforms", False),
        ("mipnerf360_bonsai", "colmap", False),
        ("snowmiku_colmap", "colmap", False),
        ("stitch_video", "transforms", False),
        ("tumbler_colmap", "colmap", False),
    ],
)
def test_which_captures_are_forward_facing(name: str, format: str, facing: bool) -> None:
    """Half the limit tells them apart as well, and for nine of ten cameras alone the answer is the same."""
    reader = READERS[format]
    assert isinstance(reader, Reader)
    poses = reader.read(capture_folder(name)).poses
    gaze = -poses[:, :3, 2]
    mean = gaze.mean(0)
    angles = np.degrees(np.arccos(np.clip(gaze @ mean / np.linalg.norm(mean), -1.0, 1.0)))
    assert forward_facing(poses) == facing
    assert (np.quantile(angles, 0.9) < 30.0) == (angles.max() < 15.0) == facing
