"""The objects that a page draws, and the panel of the camera path, without a browser."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nerf_metal.export.camera_path_json import camera_path_from_json
from nerf_metal.viewer import scene_graph
from nerf_metal.viewer.axes import pose_for_page, pose_of_page
from nerf_metal.viewer.scene_graph import add_box, add_cameras, frustum_size, named_cameras, thumbnail


def page_at(c2w):
    """Return a page whose camera has a pose."""
    wxyz, position = pose_for_page(c2w)
    return SimpleNamespace(camera=SimpleNamespace(wxyz=wxyz, position=position))


def test_cameras_are_drawn_at_their_poses(viewer, cube_scene, monkeypatch):
    monkeypatch.setattr(scene_graph, "MOST_FRUSTA", 4)
    nodes = add_cameras(viewer.server, cube_scene, lambda client, camera: None)
    assert len(nodes) == 4 + 3
    cameras = {camera.name: camera for camera in named_cameras(cube_scene)}
    assert len(cameras) == 12 + 3 and next(iter(cameras)) == "train 0: 0"
    for name, node in nodes.items():
        torch.testing.assert_close(pose_of_page(node.wxyz, node.position), cameras[name].c2w, atol=1e-5, rtol=0)
        assert node.fov == pytest.approx(0.7) and node.aspect == pytest.approx(1.0)


def test_the_box_has_its_twelve_edges(viewer):
    box = torch.tensor([[-1.0, -2.0, -3.0], [2.0, 2.0, 2.0]])
    points = add_box(viewer.server, box).points
    assert points.shape == (12, 2, 3)
    lengths = np.abs(points[:, 0] - points[:, 1])
    assert sorted(lengths.sum(1).tolist()) == [3.0] * 4 + [4.0] * 4 + [5.0] * 4
    assert ((lengths > 0).sum(1) == 1).all()


def test_frusta_keep_out_of_each_others_way(cube_scene):
    """Twelve cameras around a cube have room. Close cameras in a row have shorter frusta, down to a tenth."""
    split = cube_scene.splits["train"]
    alone, crowded = frustum_size(dataclasses.replace(cube_scene, splits={"train": split}))
    assert not crowded and alone == pytest.approx(0.045 * float(split.c2w[:, :3, 3].norm(dim=-1).median()))
    for apart, expected in ((0.2, 0.35 * 0.2), (1e-4, 0.1 * alone)):
        row = split.c2w[:1].repeat(12, 1, 1)
        row[:, 2, 3] += apart * (torch.arange(12) - 5.5)
        size, crowded = frustum_size(
            dataclasses.replace(cube_scene, splits={"train": dataclasses.replace(split, c2w=row)})
        )
        assert crowded and size == pytest.approx(expected, rel=0.1)


def test_a_thumbnail_is_the_image_made_small_over_white(cube_scene):
    split = cube_scene.splits["train"]
    small = thumbnail(split, 0)
    rgba = split.image(0).float() / 255
    expected = rgba[..., :3] * rgba[..., 3:] + 1 - rgba[..., 3:]
    torch.testing.assert_close(torch.from_numpy(small).float() / 255, expected, atol=0.01, rtol=0)
    wide = SimpleNamespace(image=lambda i: torch.full((700, 1400, 4), 255, dtype=torch.uint8))
    assert thumbnail(wide, 0).shape == (32, 64, 3)


def test_a_path_is_saved_for_render(viewer, cube_scene, tmp_path):
    panel, poses = viewer.path, cube_scene.splits["train"].c2w
    panel.save()
    assert "two or more key poses, got 0" in panel._message.content
    for index in (0, 3, 3, 5, 6):
        panel.add(page_at(poses[index]))  # the second of two equal poses is refused
    panel.remove(1)
    panel._name.value = "../escape"
    panel.save()
    assert "got '../escape'" in panel._message.content and not list(tmp_path.rglob("*.json"))
    panel._name.value, panel._closed.value = "round", True
    panel.save()
    path = tmp_path / "run" / "camera_paths" / "round.json"
    assert "Saved" in panel._message.content
    assert f"`nerf-metal render {tmp_path / 'run'} --path {path}`" in panel._message.content
    panel.save()
    assert "Replaced" in panel._message.content
    read = camera_path_from_json(path.read_text(), str(path), torch.eye(4, dtype=torch.float64))
    assert len(read.frames) == 144 and read.fps == 24 and read.is_cycle
    assert len(json.loads(path.read_text())["keyframes"]) == 3
    centres = torch.stack([pose[:3, 3] for pose, _ in read.frames])
    for index in (0, 3, 5):
        assert float((centres - poses[index, :3, 3]).norm(dim=-1).min()) < 0.1
    last_step = float((centres[0] - centres[-1]).norm())
    assert 0 < last_step < 2 * float((centres[1] - centres[0]).norm())  # the path closes
