"""What the readers find in a folder, how frames are split, and which files are opened."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nerf_metal.data import load_scene
from nerf_metal.data.load import READERS, detect_format
from nerf_metal.data.readers.colmap import read_colmap
from nerf_metal.data.readers.llff import read_llff
from nerf_metal.data.readers.transforms import read_transforms
from nerf_metal.train.options import TrainConfig
from nerf_metal.train.scenes import open_scene
from nerf_metal.util.errors import InputError
from tests.data.messages import check_message
from tests.data.written import ring, save_photos, write_blender, write_colmap, write_llff, write_transforms


def _edit(root: Path, **values: Any) -> None:
    file = root / "transforms.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_every_format_is_detected_and_the_order_between_them(tmp_path: Path) -> None:
    assert list(READERS) == ["blender", "transforms", "colmap", "llff"]
    shots = ring(4)
    for write, name in ((write_llff, "llff"), (write_colmap, "colmap"), (write_transforms, "transforms")):
        write(tmp_path, shots)
        assert detect_format(tmp_path) == name
    notes = load_scene(tmp_path).notes
    assert "also sparse/0 (COLMAP), which --format colmap would read, and poses_bounds.npy" in notes[0]
    write_blender(tmp_path, shots)
    assert detect_format(tmp_path) == "blender"
    assert load_scene(tmp_path, format="llff").notes == []
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError) as raised:
        load_scene(tmp_path / "empty")
    check_message(raised.value, "transforms_train.json|transforms.json|sparse/0|poses_bounds.npy", "empty folder")


def test_missing_files_are_left_out_and_named(tmp_path: Path) -> None:
    write_transforms(tmp_path, ring(6))
    for i in (1, 4):
        (tmp_path / "images" / f"{i:02}.png").unlink()
    capture = read_transforms(tmp_path)
    assert capture.notes == ["2 of 6 frames have no file: images/01, images/04"]
    assert [frame.name for frame in capture.frames] == ["images/00", "images/02", "images/03", "images/05"]


def test_paths_as_people_write_them(tmp_path: Path) -> None:
    shots = ring(4)
    for shot, path in zip(
        shots, ("./images/00", "images\\01.png", "images/./02.png", "../scene/images/03"), strict=True
    ):
        shot.extra = {"file_path": path, "depth_file_path": "depth/0.png"}
    shots[1].extra["mask_path"] = "./masks/01.png"
    capture = read_transforms(write_transforms(tmp_path / "scene", shots))
    assert [frame.name for frame in capture.frames] == ["images/00", "images/01", "images/02", "scene/images/03"]
    assert [frame.mask for frame in capture.frames] == [None, tmp_path / "scene" / "masks" / "01.png", None, None]
    assert capture.notes == ["depth_file_path of 4 frames is not used"]


def test_intrinsics_of_the_file_and_of_a_frame(tmp_path: Path) -> None:
    """Angles of view where there is no focal length, the file's size where there is none, a frame's values first."""
    write_transforms(tmp_path, ring(3))
    meta = json.loads((tmp_path / "transforms.json").read_text())
    frames = [{key: frame[key] for key in ("file_path", "transform_matrix")} for frame in meta["frames"]]
    frames[1] |= {"fl_x": 5.0, "k1": 0.5}
    top = {"camera_angle_x": 2 * np.arctan(0.6), "camera_angle_y": 2 * np.arctan(0.5), "k1": 0.25, "is_fisheye": False}
    (tmp_path / "transforms.json").write_text(json.dumps({**top, "frames": frames}))
    first, second, _ = (frame.camera for frame in read_transforms(tmp_path).frames)
    assert (first.fl_x, first.fl_y) == pytest.approx((10.0, 8.0))
    assert (first.cx, first.cy, first.width, first.height, first.k1) == (6.0, 4.0, 12, 8, 0.25)
    assert (second.fl_x, second.fl_y, second.k1) == (5.0, pytest.approx(8.0), 0.5)


def test_every_so_many_th_frame_by_name_is_held_out(tmp_path: Path) -> None:
    shots = ring(10)
    for i, shot in enumerate(shots):
        shot.name = f"{i + 1}.png"  # 1, 10, 2, 3 ...
    write_colmap(tmp_path, shots)
    scene = load_scene(tmp_path, hold_out=4, splits=("train", "val", "test"))
    assert scene.splits["test"].names == [f"images/{i}" for i in (1, 4, 8)]
    assert scene.splits["val"].names == scene.splits["test"].names
    assert scene.splits["train"].names == [f"images/{i}" for i in (10, 2, 3, 5, 6, 7, 9)]


def test_lists_of_the_capture_go_before_holding_out(tmp_path: Path) -> None:
    write_transforms(tmp_path, ring(5))
    (tmp_path / "images" / "01.png").unlink()
    _edit(tmp_path, train_filenames=["./images/00.png", "images/01.png", "images/04.png"], val_filenames=["images/02"])
    splits = load_scene(tmp_path).splits
    assert {name: split.names for name, split in splits.items()} == {
        "train": ["images/00", "images/04"],
        "test": ["images/02"],
    }
    _edit(tmp_path, val_filenames=None)
    assert load_scene(tmp_path, splits=["test"]).splits["test"].names == ["images/02", "images/03"]
    _edit(tmp_path, val_filenames=["images/09.png"])
    with pytest.raises(InputError) as raised:
        load_scene(tmp_path)
    check_message(raised.value, "val_filenames", "images/09")


def test_smaller_copies_are_opened_where_they_fit(tmp_path: Path) -> None:
    """Named alike in images_2 and images_4; --downscale counts from the largest folder there is."""
    shots = ring(4)
    for shot in shots:
        shot.size, shot.lens["cx"], shot.lens["cy"] = (48, 32), 24.0, 16.0
    write_transforms(tmp_path, shots)
    for shrink, value in ((2, 100), (4, 200)):
        for shot in shots:
            path = tmp_path / f"images_{shrink}" / Path(shot.name).with_suffix(".jpg").name
            path.parent.mkdir(exist_ok=True)
            Image.new("RGB", (48 // shrink, 32 // shrink), (value,) * 3).save(path)
    opened = {}
    for downscale in (1, 2, 4, 6, 8):
        split = load_scene(tmp_path, downscale=downscale).splits["train"]
        assert (split.camera(0).width, split.camera(0).fl_x) == (48 // downscale, 9.0 / downscale)
        opened[downscale] = int(split.image(0)[0, 0, 0])
    assert opened == {1: 1, 2: 100, 4: 200, 6: 100, 8: 200}
    (tmp_path / "images_4" / "03.jpg").unlink()
    assert load_scene(tmp_path, downscale=4).splits["train"].image(0)[0, 0, 0] == 100


def test_copies_of_sizes_that_do_not_divide(tmp_path: Path) -> None:
    """A quarter of 46 x 31 was rounded to 12 x 8: lengths follow the file along each axis."""
    shots = ring(3)
    for shot in shots:
        shot.size = (46, 31)
    write_colmap(tmp_path, shots)
    (tmp_path / "images").rename(tmp_path / "images_4")
    for shot in shots:
        shot.size = (12, 8)
    save_photos(tmp_path / "images_4", shots)
    camera = load_scene(tmp_path).splits["train"].camera(0)
    assert (camera.width, camera.height) == (12, 8)
    assert (camera.fl_x, camera.fl_y) == pytest.approx((9.0 * 12 / 46, 9.0 * 8 / 31))


def test_large_photographs_are_reduced_by_themselves(tmp_path: Path) -> None:
    shots = ring(3)
    for shot in shots:
        shot.size = (8, 3210)  # 3200 are the most that 2 leaves 1600 of
    write_transforms(tmp_path, shots)
    scene = load_scene(tmp_path)
    assert scene.splits["train"].sizes[0].tolist() == [1070, 2]
    assert scene.notes[0] == "photographs are reduced by 3: --downscale 1 keeps their 3210 pixels"


def test_colmap_models_lie_in_several_places(tmp_path: Path) -> None:
    write_colmap(tmp_path, ring(4), text=True)
    for place in ("sparse", "colmap/sparse/0", "."):
        folder = tmp_path / "elsewhere" / place
        folder.mkdir(parents=True, exist_ok=True)
        for file in (tmp_path / "sparse" / "0").iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        save_photos(tmp_path / "elsewhere" / "images", ring(4))
        assert len(read_colmap(tmp_path / "elsewhere").frames) == 4
        for file in folder.glob("*.txt"):
            file.unlink()
    assert len(read_colmap(tmp_path / "sparse" / "0").frames) == 4
    (tmp_path / "sparse" / "1").mkdir()
    for file in (tmp_path / "sparse" / "0").iterdir():
        (tmp_path / "sparse" / "1" / file.name).write_bytes(file.read_bytes())
    assert read_colmap(tmp_path).notes == ["sparse holds 2 models (0, 1): 0 is read"]


def test_colmap_points(tmp_path: Path) -> None:
    points = np.random.default_rng(0).normal(size=(20, 3))
    for text in (False, True):
        root = tmp_path / str(text)
        assert np.array_equal(read_colmap(write_colmap(root, ring(3), points, text)).points, points)
    for file in (root / "sparse" / "0").glob("points3D*"):
        file.unlink()
    assert read_colmap(root).points is None


def test_llff_takes_the_folder_there_is(tmp_path: Path) -> None:
    shots = ring(3)
    for shot in shots:
        shot.size = (24, 16)
    capture = read_llff(write_llff(tmp_path, shots, shrink=4, bounds=(2.0, 20.0)))
    assert capture.bounds == (2.0, 20.0)
    assert [frame.name for frame in capture.frames] == ["images_4/00", "images_4/01", "images_4/02"]
    save_photos(tmp_path / "images_2", shots, 2)
    assert read_llff(tmp_path).frames[0].name == "images_2/00"


def test_the_options_of_a_run_reach_the_loader(tmp_path: Path) -> None:
    write_transforms(tmp_path, ring(9))
    write_llff(tmp_path, ring(9))
    options = {"format": "llff", "hold_out": 3, "scene_scale": 0.5, "cascades": 7, "downscale": 2}
    scene = open_scene(TrainConfig(data=str(tmp_path), **options))
    assert (len(scene.splits["test"]), scene.cascades, scene.splits["test"].camera(0).width) == (3, 7, 6)
    whole = open_scene(TrainConfig(data=str(tmp_path), format="llff"))
    assert np.allclose(scene.capture_to_scene[:3] * 2, whole.capture_to_scene[:3])
    turned = open_scene(TrainConfig(data=str(tmp_path), orient=False))
    assert np.allclose(turned.capture_to_scene[0, 1:3], 0)


def test_photographs_with_alpha_have_nothing_behind_the_box(tmp_path: Path) -> None:
    write_transforms(tmp_path, ring(4))
    assert load_scene(tmp_path).cascades == 5
    for photo in (tmp_path / "images").iterdir():
        Image.new("RGBA", (12, 8), (1, 2, 3, 4)).save(photo)
    assert load_scene(tmp_path).cascades == 1
    assert load_scene(tmp_path, cascades=3).cascades == 3


def test_a_colmap_count_that_lies_is_found(tmp_path: Path) -> None:
    """Larger or smaller than what follows, or absurd: no wrong model, and no memory asked for."""
    write_colmap(tmp_path, ring(3), np.ones((4, 3)))
    for name in ("cameras", "images", "points3D"):
        file = tmp_path / "sparse" / "0" / f"{name}.bin"
        data = file.read_bytes()
        (count,) = struct.unpack_from("<Q", data)
        for wrong, words in ((count + 1, "within an entry"), (2**63, "within an entry"), (count - 1, "bytes more")):
            file.write_bytes(struct.pack("<Q", wrong) + data[8:])
            with pytest.raises(InputError) as raised:
                read_colmap(tmp_path)
            check_message(raised.value, f"{name}.bin", words)
        for length in range(0, len(data), 7):
            file.write_bytes(data[:length])
            with pytest.raises(InputError) as raised:
                read_colmap(tmp_path)
            check_message(raised.value, f"{name}.bin", "")
        file.write_bytes(data)
