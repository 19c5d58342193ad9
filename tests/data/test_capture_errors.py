"""Broken captures: one line each that names the place, what was got, and what to do."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nerf_metal.cli import main
from nerf_metal.data import load_scene
from nerf_metal.util.errors import InputError
from tests.data.messages import check_message
from tests.data.written import ring, write_colmap, write_llff, write_transforms

Change = Callable[[Path], object]
REFLECTION = np.diag([1.0, 1.0, -1.0, 1.0])
SHEAR = np.array([[1.0, 0.2, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]])


def _frame(**values: Any) -> Change:
    def change(root: Path) -> None:
        meta = json.loads((root / "transforms.json").read_text())
        meta["frames"][1].update(values)
        (root / "transforms.json").write_text(json.dumps(meta))

    return change


def _top(**values: Any) -> Change:
    def change(root: Path) -> None:
        file = root / "transforms.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | values))

    return change


def _without(*keys: str) -> Change:
    def change(root: Path) -> None:
        meta = json.loads((root / "transforms.json").read_text())
        for key in keys:
            del meta["frames"][1][key]
        (root / "transforms.json").write_text(json.dumps(meta))

    return change


def _row(change: Callable[[Any], Any]) -> Change:
    def apply(root: Path) -> None:
        rows = np.load(root / "poses_bounds.npy")
        np.save(root / "poses_bounds.npy", change(rows))

    return apply


def _set(column: int, value: float) -> Change:
    def change(rows: Any) -> Any:
        rows[1, column] = value
        return rows

    return _row(change)


def _pose(matrix: Any) -> Change:
    def change(rows: Any) -> Any:
        pose = rows[1, :15].reshape(3, 5)
        pose[:, :3] = pose[:, :3] @ matrix[:3, :3]
        return rows

    return _row(change)


def _bin(name: str, at: int, layout: str, value: float) -> Change:
    def change(root: Path) -> None:
        file = root / "sparse" / "0" / f"{name}.bin"
        data = bytearray(file.read_bytes())
        struct.pack_into("<" + layout, data, at, value)
        file.write_bytes(data)

    return change


def _text(name: str, old: str, new: str) -> Change:
    def change(root: Path) -> None:
        write_colmap(root, ring(3), text=True)
        for file in (root / "sparse" / "0").glob("*.bin"):
            file.unlink()
        file = root / "sparse" / "0" / f"{name}.txt"
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new, 1))

    return change


def _empty_model(root: Path) -> None:
    for name in ("cameras", "images", "points3D"):
        (root / "sparse" / "0" / f"{name}.bin").write_bytes(struct.pack("<Q", 0))


def _photo(size: tuple[int, int] | None = None, data: bytes = b"") -> Change:
    def change(root: Path) -> None:
        file = root / "images" / "01.png"
        if size:
            Image.new("RGB", size).save(file)
        else:
            file.write_bytes(data)

    return change


def _remove(name: str) -> Change:
    return lambda root: (root / name).unlink()


def _remove_all(root: Path) -> None:
    for file in (root / "images").iterdir():
        file.unlink()


TRANSFORMS: list[tuple[Change, str, str]] = [
    (_top(frames=[]), "transforms.json|frames", "empty"),
    (lambda root: (root / "transforms.json").write_text('{"frames": [,'), "transforms.json|JSON", "line 1 column 13"),
    (lambda root: (root / "transforms.json").write_text("[]"), "transforms.json|frames", "list"),
    (_remove_all, "transforms.json", "3 of 3 frames have no file: images/00, images/01"),
    (_without("file_path"), "frame 1]|file_path", "'fl_x'"),
    (_frame(file_path=7), "frame 1]|file_path", "7;"),
    (_frame(file_path="images/00.png"), "", "images/00 twice"),
    (_frame(mask_path="gone.png"), "gone.png", ""),
    (_frame(transform_matrix=REFLECTION.tolist()), "frame 1] camera-to-world|determinant", "-1"),
    (_frame(transform_matrix=SHEAR.tolist()), "frame 1] camera-to-world|orthonormal|0.001", "0.2"),
    (_frame(transform_matrix=[[math.nan] * 4] * 4), "frame 1] camera-to-world|finite", "NaN"),
    (_frame(transform_matrix=[[1, 0]]), "frame 1] camera-to-world|4x4", "(1, 2)"),
    (_frame(fl_x=math.nan), "frame 1] fl_x", "nan"),
    (_frame(fl_x=-5.0), "frame 1] fl_x", "-5.0"),
    (_frame(cx=math.inf), "frame 1] cx", "inf"),
    (_frame(k1="0"), "frame 1] k1", "'0'"),
    (_frame(w=0), "frame 1] w", "0"),
    (_frame(h=8.5), "frame 1] h", "8.5"),
    (_without("fl_x", "fl_y"), "frame 1]|fl_x|camera_angle_x", "neither"),
    (_frame(camera_angle_x=4.0, fl_x=None), "frame 1] camera_angle_x|radians", "4.0"),
    (_frame(camera_model="OPENCV_FISHEYE"), "frame 1] camera_model|PINHOLE|OPENCV", "OPENCV_FISHEYE"),
    (_top(camera_model="EQUIRECTANGULAR"), "frame 0] camera_model", "EQUIRECTANGULAR"),
    (_top(is_fisheye=True), "frame 0] camera_model", "fisheye"),
    (_top(applied_transform=REFLECTION[:3].tolist()), "applied_transform|determinant", "-1"),
    (_top(applied_scale=0), "applied_scale", "0.0"),
    (_top(aabb_scale="big"), "aabb_scale", "'big'"),
    (_top(train_filenames="00.png"), "train_filenames", "'00.png'"),
    (_top(train_filenames=[]), "train", "none of 3"),
    (_photo((10, 8)), "01.png|12x8", "10x8"),
    (_photo(), "01.png", ""),
]
LLFF: list[tuple[Change, str, str]] = [
    (_remove("images/02.png"), "images|3|poses_bounds.npy", "2"),
    (_photo((10, 8)), "01.png|12x8", "10x8"),
    (_photo(data=b"GIF"), "01.png", ""),
    (_row(lambda rows: rows[:, :15]), "poses_bounds.npy|17", "(3, 15)"),
    (_row(lambda rows: rows[:0]), "images|0", "3"),
    (lambda root: (root / "poses_bounds.npy").write_bytes(b"\x93NUMPY"), "poses_bounds.npy|NumPy", ""),
    (_pose(REFLECTION), "row 1, 01.png] camera-to-world|determinant", "-1"),
    (_pose(SHEAR), "row 1, 01.png] camera-to-world|orthonormal", "0.2"),
    (_set(3, math.inf), "row 1, 01.png] camera-to-world|finite", "infinity"),
    (_set(14, -3.0), "row 1, 01.png] fl_x", "-3.0"),
    (_set(14, math.nan), "row 1, 01.png] fl_x", "nan"),
    (_set(4, 8.5), "row 1, 01.png] height", "8.5x12"),
    (_set(15, -1.0), "poses_bounds.npy|near|far", "-1 and 9"),
    (_set(16, math.nan), "poses_bounds.npy|near|far", "nan"),
]
COLMAP: list[tuple[Change, str, str]] = [
    (_empty_model, "", "none"),
    (_remove("images/01.png"), "images", "01.png"),
    (_remove_all, "images", "00.png, 01.png, 02.png"),
    (_photo((10, 8)), "01.png|12x8", "10x8"),
    (_bin("cameras", 12, "i", 5), "camera 7] camera model", "OPENCV_FISHEYE"),
    (_bin("cameras", 12, "i", 99), "camera 7] camera model", "99"),
    (_bin("cameras", 32, "d", -9.0), "camera 7] fl_x", "-9.0"),
    (_bin("cameras", 48, "d", math.nan), "camera 7] cx", "nan"),
    (_bin("images", 12, "d", math.nan), "image 00.png] pose", "NaN"),
    (_bin("images", 12, "d", 3.0), "image 00.png] rotation|0.001", "of norm 3"),
    (_bin("images", 68, "I", 77), "images.bin|cameras.bin", "77 for 00.png"),
    (_text("cameras", "OPENCV", "FOV"), "cameras.txt line 2] camera model", "FOV"),
    (_text("cameras", "OPENCV", "PINHOLE"), "camera 7] PINHOLE|4", "8"),
    (_text("cameras", "9.0", "nine"), "cameras.txt line 2]", "'7 OPENCV"),
    (_text("images", "\n\n", "\n"), "images.txt line 2]", "'3 "),
    (_text("images", "01.png", "00.png"), "", "images/00 twice"),
    (lambda root: (root / "sparse" / "0" / "cameras.bin").write_bytes(b""), "cameras.bin", "0 bytes"),
]
WRITERS = {"transforms": write_transforms, "llff": write_llff, "colmap": write_colmap}
CASES = [
    (name, change, names, got)
    for name, cases in (("transforms", TRANSFORMS), ("llff", LLFF), ("colmap", COLMAP))
    for change, names, got in cases
]


@pytest.mark.parametrize(("name", "change", "names", "got"), CASES)
def test_one_line(tmp_path: Path, name: str, change: Change, names: str, got: str) -> None:
    WRITERS[name](tmp_path, ring(3))
    load_scene(tmp_path, format=name)  # it loads before it is broken
    change(tmp_path)
    with pytest.raises(InputError) as raised:
        load_scene(tmp_path, format=name)
    check_message(raised.value, names, got)


def test_the_command_says_it_on_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_colmap(tmp_path / "capture", ring(3))
    _bin("cameras", 12, "i", 5)(tmp_path / "capture")
    assert main(["train", "--data", str(tmp_path / "capture"), "--out", str(tmp_path / "run"), "--steps", "1"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "got OPENCV_FISHEYE" in error


@pytest.mark.parametrize(
    ("name", "names"),
    [("blender", "transforms_train.json"), ("colmap", "COLMAP|sparse/0"), ("llff", "poses_bounds.npy")],
)
def test_a_forced_format_that_is_not_there(tmp_path: Path, name: str, names: str) -> None:
    write_transforms(tmp_path, ring(3))
    with pytest.raises(InputError) as raised:
        load_scene(tmp_path, format=name)
    check_message(raised.value, names, "")


@pytest.mark.parametrize(
    ("options", "names", "got"),
    [
        ({"format": "usd"}, "--format|auto|blender", "usd"),
        ({"splits": ["dev"]}, "splits|train, val, test", "'dev'"),
        ({"downscale": 9}, "--downscale|8|01.png|12x8", "9"),
    ],
)
def test_arguments(tmp_path: Path, options: dict[str, Any], names: str, got: str) -> None:
    with pytest.raises(InputError) as raised:
        load_scene(write_transforms(tmp_path, ring(3)), **options)
    check_message(raised.value, names, got)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError) as raised:
        load_scene(tmp_path / "gone")
    check_message(raised.value, "path", "gone (nothing there)")
