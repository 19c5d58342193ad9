"""NeRF-synthetic folders: what is read, what is refused, and how it is said."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from nerf_metal.data import load_blender
from nerf_metal.data.cameras import Intrinsics
from nerf_metal.data.images import box_downscale
from nerf_metal.util.errors import InputError
from tests.data.messages import check_message

Meta = dict[str, Any]
Noise = Callable[[int, int, int, int], NDArray[np.uint8]]


def _edit(folder: Path, change: Callable[[Meta], object], split: str = "train") -> None:
    file = folder / f"transforms_{split}.json"
    meta = json.loads(file.read_text())
    change(meta)
    file.write_text(json.dumps(meta))


def test_load(folder: Path, noise: Noise) -> None:
    scene = load_blender(folder)
    assert (scene.name, scene.source, scene.near, scene.far) == ("toy", str(folder), 2.0, 6.0)
    assert scene.aabb.tolist() == [[-1.5] * 3, [1.5] * 3]
    assert scene.notes == []
    train = scene.splits["train"]
    assert train.intrinsics == Intrinsics.from_fov_x(math.pi / 2, 6, 4)
    assert train.names == [f"train/r_{i}" for i in range(5)]
    assert train.has_alpha
    assert train.c2w[:, 0, 3].tolist() == [0, 1, 2, 3, 4]
    for i in range(5):
        assert train.images[i].tolist() == noise(4, 6, 4, i).tolist()
    assert scene.splits["test"].images.shape == (2, 4, 6, 4)
    assert list(load_blender(folder, splits=["test"]).splits) == ["test"]


def test_file_path_may_have_an_extension(folder: Path, noise: Noise) -> None:
    Image.fromarray(noise(4, 6, 4, 9)).save(folder / "train" / "r_0.5.png")
    _edit(folder, lambda meta: meta["frames"][1].update(file_path="train/r_1.png"))
    _edit(folder, lambda meta: meta["frames"][2].update(file_path="train/r_0.5"))
    names = load_blender(folder, splits=["train"]).splits["train"].names
    assert names[:3] == ["train/r_0", "train/r_1", "train/r_0.5"]


def test_max_views_are_evenly_spaced_and_only_they_are_decoded(folder: Path) -> None:
    for unused in (0, 2, 4):
        (folder / "train" / f"r_{unused}.png").unlink()
    scene = load_blender(folder, splits=["train"], max_views={"train": 2, "test": 1})
    assert scene.splits["train"].names == ["train/r_1", "train/r_3"]
    assert scene.splits["train"].c2w[:, 0, 3].tolist() == [1, 3]
    assert scene.notes == ["train: 2 of 5 views, evenly spaced"]
    assert len(load_blender(folder, splits=["test"], max_views={"test": 9}).splits["test"].names) == 2


def test_downscale_keeps_the_angle_of_view(folder: Path, noise: Noise) -> None:
    scene = load_blender(folder, downscale=2)
    train = scene.splits["train"]
    assert train.intrinsics == Intrinsics.from_fov_x(math.pi / 2, 3, 2)
    assert train.images[3].tolist() == box_downscale(noise(4, 6, 4, 3), 2).tolist()


def test_images_without_alpha(folder: Path, noise: Noise) -> None:
    for i in range(5):
        Image.fromarray(noise(4, 6, 3, i)).save(folder / "train" / f"r_{i}.png")
    Image.fromarray(noise(4, 6, 1, 7)[..., 0]).save(folder / "train" / "r_2.png")  # one of them grey
    scene = load_blender(folder)
    train = scene.splits["train"]
    assert not train.has_alpha
    assert scene.splits["test"].has_alpha
    assert (train.images[..., 3] == 255).all()
    assert train.images[1, ..., :3].tolist() == noise(4, 6, 3, 1).tolist()
    assert train.images[2, ..., :3].tolist() == np.repeat(noise(4, 6, 1, 7), 3, axis=2).tolist()
    assert scene.notes == ["images of train have no alpha channel: the background setting has no effect on the truth"]


def _remove(*keys: str) -> Callable[[Path], object]:
    return lambda folder: _edit(folder, lambda meta: [meta.pop(key) for key in keys])


def _set_frame(**values: object) -> Callable[[Path], object]:
    return lambda folder: _edit(folder, lambda meta: meta["frames"][3].update(values))


def _set(key: str, value: object) -> Callable[[Path], object]:
    return lambda folder: _edit(folder, lambda meta: meta.update({key: value}))


def _write(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def _nothing(folder: Path) -> None:
    pass


REFLECTION = np.diag([1.0, 1.0, -1.0, 1.0]).tolist()


@pytest.mark.parametrize(
    ("change", "options", "names", "got"),
    [
        (_nothing, {"splits": ["train", "night"]}, "splits|train, val, test", "'night'"),
        (_nothing, {"splits": []}, "splits", "[]"),
        (_nothing, {"splits": "train"}, "splits", "'train'"),
        (_nothing, {"max_views": {"tran": 3}}, "max_views", "'tran'"),
        (_nothing, {"max_views": {"train": 0}}, "max_views|'train'", "0"),
        (_nothing, {"downscale": 0}, "downscale|1", "0"),
        (_nothing, {"downscale": 1.5}, "downscale", "1.5"),
        (_nothing, {"downscale": True}, "downscale", "True"),
        (_nothing, {"downscale": 4}, "downscale|6x4", "4; use one of 1, 2"),
        (_nothing, {"splits": ["val"]}, "transforms_val.json", "test, train, transforms_test"),
        (lambda folder: (folder / "transforms_test.json").unlink(), {}, "transforms_test.json", "'test'"),
        (_write("transforms_train.json", b'{"a": 1,\n "b" 2}'), {}, "transforms_train.json|JSON", "line 2 column 6"),
        (_write("transforms_train.json", b"\xff\xfe{"), {}, "transforms_train.json|UTF-8", ""),
        (_write("transforms_train.json", b"[1]"), {}, "transforms_train.json|object", "list"),
        (_remove("frames"), {}, "'frames'", "['camera_angle_x']"),
        (_set("frames", []), {}, "'frames'", "empty list"),
        (_set("frames", {"a": 1}), {}, "'frames'", "dict"),
        (_remove("camera_angle_x"), {}, "'camera_angle_x'|radians", "none"),
        (_set("camera_angle_x", math.nan), {}, "'camera_angle_x'", "nan"),
        (_set("camera_angle_x", math.inf), {}, "'camera_angle_x'", "inf"),
        (_set("camera_angle_x", 39.6), {}, "'camera_angle_x'", "39.6"),
        (_set("camera_angle_x", "1"), {}, "'camera_angle_x'", "'1'"),
        (
            lambda folder: _edit(folder, lambda meta: meta["frames"][3].pop("file_path")),
            {},
            "json frame 3]|'file_path'",
            "['transform_matrix']",
        ),
        (
            lambda folder: _edit(folder, lambda meta: meta["frames"][3].pop("transform_matrix")),
            {},
            "json frame 3]|'transform_matrix'",
            "['file_path']",
        ),
        (_set("frames", ["a"]), {}, "frame 0]|'file_path'", "[]"),
        (_set_frame(file_path=7), {}, "frame 3] file_path", "7;"),
        (_set_frame(file_path="./train/gone"), {}, "gone.png", ""),
        (_set_frame(transform_matrix=[[1, 2], [3, 4]]), {}, "frame 3] camera-to-world|4x4", "(2, 2)"),
        (_set_frame(transform_matrix=[[math.nan] * 4] * 4), {}, "frame 3] camera-to-world|finite", "NaN"),
        (_set_frame(transform_matrix=[[2.0] * 4] * 4), {}, "frame 3] camera-to-world|0 0 0 1", "[2.0, 2.0, 2.0, 2.0]"),
        (_set_frame(transform_matrix=REFLECTION), {}, "frame 3] camera-to-world|determinant", "-1"),
        (_write("train/r_2.png", b""), {}, "r_2.png", "0 bytes"),
        (_write("train/r_2.png", b"not a picture"), {}, "r_2.png", "13 bytes"),
        (
            lambda folder: Image.new("RGBA", (4, 6)).save(folder / "train" / "r_2.png"),
            {},
            "r_2.png|r_0.png|6x4",
            "4x6",
        ),
    ],
)
def test_bad_input_is_said_in_one_line(
    folder: Path, change: Callable[[Path], object], options: dict[str, Any], names: str, got: str
) -> None:
    change(folder)
    with pytest.raises(InputError) as raised:
        load_blender(folder, **options)
    check_message(raised.value, names, got)


def test_the_path_must_be_a_folder(folder: Path) -> None:
    (folder / "empty").mkdir()
    for name, names, got in (
        ("gone", "path", "gone (nothing there)"),
        ("transforms_train.json", "path", "transforms_train.json (a file)"),
        ("empty", "transforms_train.json", "empty folder"),
    ):
        with pytest.raises(InputError) as raised:
            load_blender(folder / name)
        check_message(raised.value, names, got)
