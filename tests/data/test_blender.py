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
from nerf_metal.data.background import background_color, composite_over
from nerf_metal.data.cameras import Intrinsics
from nerf_metal.data.images import box_downscale
from nerf_metal.util.errors import InputError

LEGO = Path(__file__).parents[2] / ".." / "shared" / "data" / "nerf_synthetic" / "lego"
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
    ("change", "options", "words"),
    [
        (_nothing, {"splits": ["train", "night"]}, r"must name some of train, val, test, got 'night'"),
        (_nothing, {"splits": []}, r"splits must be a list of names, got \[\]"),
        (_nothing, {"splits": "train"}, r"splits must be a list of names, got 'train'"),
        (_nothing, {"max_views": {"tran": 3}}, r"got 'tran'; correct"),
        (
            _nothing,
            {"max_views": {"train": 0}},
            r"max_views must be an integer of at least 1 for 'train', got 0",
        ),
        (_nothing, {"downscale": 0}, r"downscale must be an integer of at least 1, got 0; 1 keeps"),
        (_nothing, {"downscale": 1.5}, r"downscale must be an integer of at least 1, got 1\.5"),
        (_nothing, {"downscale": True}, r"downscale must be an integer of at least 1, got True"),
        (_nothing, {"downscale": 4}, r"must divide the image size 6x4, got 4; use one of 1, 2$"),
        (
            _nothing,
            {"splits": ["val"]},
            r"toy must have transforms_val\.json, got test, train, transforms_test",
        ),
        (
            lambda folder: (folder / "transforms_test.json").unlink(),
            {},
            r"must have transforms_test\.json, got .*, or leave 'test' out of splits",
        ),
        (
            _write("transforms_train.json", b'{"a": 1,\n "b" 2}'),
            {},
            r"valid JSON, got .* at line 2 column 6; mend",
        ),
        (
            _write("transforms_train.json", b"\xff\xfe{"),
            {},
            r"transforms_train\.json must be a readable UTF-8 te",
        ),
        (_write("transforms_train.json", b"[1]"), {}, r"must have an object .*, got a list; "),
        (_remove("frames"), {}, r"must have 'frames', .* got keys \['camera_angle_x'\]"),
        (_set("frames", []), {}, r"must have 'frames', .* got an empty list"),
        (_set("frames", {"a": 1}), {}, r"must have 'frames', .* got a dict"),
        (_remove("camera_angle_x"), {}, r"must have 'camera_angle_x' in \(0, pi\) radians, got none; write"),
        (_set("camera_angle_x", math.nan), {}, r"'camera_angle_x' in \(0, pi\) radians, got nan"),
        (_set("camera_angle_x", math.inf), {}, r"'camera_angle_x' in \(0, pi\) radians, got inf"),
        (_set("camera_angle_x", 39.6), {}, r"'camera_angle_x' in \(0, pi\) radians, got 39\.6"),
        (_set("camera_angle_x", "1"), {}, r"'camera_angle_x' in \(0, pi\) radians, got '1'"),
        (
            lambda folder: _edit(folder, lambda meta: meta["frames"][3].pop("file_path")),
            {},
            r"json frame 3\] must have 'file_path', got keys \['transform_matrix'\]; add",
        ),
        (
            lambda folder: _edit(folder, lambda meta: meta["frames"][3].pop("transform_matrix")),
            {},
            r"json frame 3\] must have 'transform_matrix', got keys \['file_path'\]; add",
        ),
        (_set("frames", ["a"]), {}, r"frame 0\] must have 'file_path', got keys \[\]"),
        (_set_frame(file_path=7), {}, r"frame 3\] file_path must be a path, got 7; "),
        (_set_frame(file_path="./train/gone"), {}, r"gone\.png must exist, got no such file; check"),
        (
            _set_frame(transform_matrix=[[1, 2], [3, 4]]),
            {},
            r"frame 3\] camera.* must be 4x4, got shape \(2, 2\)",
        ),
        (
            _set_frame(transform_matrix=[[math.nan] * 4] * 4),
            {},
            r"frame 3\] camera.* must be finite, got NaN",
        ),
        (
            _set_frame(transform_matrix=[[2.0] * 4] * 4),
            {},
            r"frame 3\] camera.* must have the last row 0 0 0 1",
        ),
        (_set_frame(transform_matrix=REFLECTION), {}, r"frame 3\] camera.* got -1 \(a reflection\); flip"),
        (
            _write("train/r_2.png", b""),
            {},
            r"r_2\.png must be a complete image, got 0 bytes that do not decode",
        ),
        (
            _write("train/r_2.png", b"not a picture"),
            {},
            r"r_2\.png must be a complete image, got 13 bytes that",
        ),
        (
            lambda folder: Image.new("RGBA", (4, 6)).save(folder / "train" / "r_2.png"),
            {},
            r"r_2\.png must have the size of .*r_0\.png, 6x4, got 4x6; bring",
        ),
    ],
)
def test_bad_input_is_said_in_one_line(
    folder: Path, change: Callable[[Path], object], options: dict[str, Any], words: str
) -> None:
    change(folder)
    with pytest.raises(InputError, match=words) as caught:
        load_blender(folder, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("[")
    assert ", got " in message
    assert "; " in message.split(", got ", 1)[1]


def test_the_path_must_be_a_folder(folder: Path) -> None:
    with pytest.raises(InputError, match=r"path must be an existing folder, got .*gone \(nothing there\); give"):
        load_blender(folder / "gone")
    with pytest.raises(InputError, match=r"transforms_train\.json \(a file\); give the folder"):
        load_blender(folder / "transforms_train.json")
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match=r"must have transforms_train\.json, got an empty folder; "):
        load_blender(folder / "empty")


def test_real_lego_blank_page() -> None:
    if not (LEGO / "transforms_test.json").is_file():
        pytest.skip("the Lego scene is not in ../shared/data: its licence keeps it out of the package")
    test = load_blender(LEGO, splits=["test"]).splits["test"]
    assert test.images.shape == (50, 800, 800, 4)
    assert test.names[:2] == ["test/r_0", "test/r_4"]
    assert test.intrinsics.fl_x == pytest.approx(1111.1110, abs=1e-3)
    psnrs = []
    for image in test.images:
        rgba = image.float() / 255.0
        truth = composite_over(rgba, background_color("white", rgba))
        psnrs.append(-10.0 * math.log10(float(((truth - 1.0) ** 2).mean())))
    assert np.mean(psnrs) == pytest.approx(9.48, abs=0.02)
