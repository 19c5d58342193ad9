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


TRANSFORMS: list[tuple[Change, str]] = [
    (_top(frames=[]), r"must have 'frames', .* got an empty list; export"),
    (lambda root: (root / "transforms.json").write_text('{"frames": [,'), r"valid JSON, got .* at line 1 column 13"),
    (lambda root: (root / "transforms.json").write_text("[]"), r"must have an object with 'frames', got a list"),
    (_remove_all, r"must name photographs that exist, got none; 3 of 3 frames have no file: images/00, images/01"),
    (_without("file_path"), r"frame 1\] must have 'file_path', got keys"),
    (_frame(file_path=7), r"frame 1\] file_path must be a path, got 7; "),
    (_frame(file_path="images/00.png"), r"must name each photograph once, got images/00 twice; remove"),
    (_frame(mask_path="gone.png"), r"gone\.png must exist, got no such file"),
    (_frame(transform_matrix=REFLECTION.tolist()), r"frame 1\] camera.* got -1 \(a reflection\); flip"),
    (_frame(transform_matrix=SHEAR.tolist()), r"frame 1\] camera.* orthonormal rotation within 0\.001, got .* 0\.2"),
    (_frame(transform_matrix=[[math.nan] * 4] * 4), r"frame 1\] camera.* must be finite"),
    (_frame(transform_matrix=[[1, 0]]), r"frame 1\] camera.* must be 4x4, got shape \(1, 2\)"),
    (_frame(fl_x=math.nan), r"frame 1\] fl_x must be a finite number, got nan"),
    (_frame(fl_x=-5.0), r"frame 1\] fl_x must be more than 0, got -5\.0; give it in pixels"),
    (_frame(cx=math.inf), r"frame 1\] cx must be a finite number, got inf"),
    (_frame(k1="0"), r"frame 1\] k1 must be a finite number, got '0'"),
    (_frame(w=0), r"frame 1\] w must be a whole number of pixels, got 0"),
    (_frame(h=8.5), r"frame 1\] h must be a whole number of pixels, got 8\.5"),
    (_without("fl_x", "fl_y"), r"frame 1\] must have 'fl_x' or 'camera_angle_x', .* got neither"),
    (_frame(camera_angle_x=4.0, fl_x=None), r"camera_angle_x must be in \(0, pi\) radians, got 4\.0"),
    (_frame(camera_model="OPENCV_FISHEYE"), r"must be one of PINHOLE, .*OPENCV, got OPENCV_FISHEYE; undistort"),
    (_top(camera_model="EQUIRECTANGULAR"), r"frame 0\] camera_model must be one of .*, got EQUIRECTANGULAR; und"),
    (_top(is_fisheye=True), r"must be one of .*, got a fisheye; undistort"),
    (_top(applied_transform=REFLECTION[:3].tolist()), r"applied_transform\] camera.* \(a reflection\)"),
    (_top(applied_scale=0), r"applied_scale must be more than 0, got 0\.0; correct"),
    (_top(aabb_scale="big"), r"aabb_scale must be a finite number, got 'big'"),
    (_top(train_filenames="00.png"), r"train_filenames must be a list of paths, got '00\.png'"),
    (_top(train_filenames=[]), r"must have photographs for train, got none of 3; add"),
    (_photo((10, 8)), r"01\.png must have the size of its camera, 12x8, or that divided .* got 10x8; restore"),
    (_photo(), r"01\.png must be an? "),
]
LLFF: list[tuple[Change, str]] = [
    (_remove("images/02.png"), r"images must hold 3 photographs as poses_bounds\.npy has rows, got 2; rows belong"),
    (_photo((10, 8)), r"01\.png must have the size of its camera, 12x8, .* got 10x8"),
    (_photo(data=b"GIF"), r"01\.png must be an? "),
    (_row(lambda rows: rows[:, :15]), r"must hold rows of 17 numbers, got float64 \(3, 15\)"),
    (_row(lambda rows: rows[:0]), r"images must hold 0 photographs .* got 3"),
    (lambda root: (root / "poses_bounds.npy").write_bytes(b"\x93NUMPY"), r"must be a NumPy array, got a file that"),
    (_pose(REFLECTION), r"row 1, 01\.png\] camera.* \(a reflection\)"),
    (_pose(SHEAR), r"row 1, 01\.png\] camera.* orthonormal"),
    (_set(3, math.inf), r"row 1, 01\.png\] camera.* must be finite"),
    (_set(14, -3.0), r"row 1, 01\.png\] fl_x must be more than 0, got -3\.0"),
    (_set(14, math.nan), r"row 1, 01\.png\] fl_x must be finite, got nan"),
    (_set(4, 8.5), r"row 1, 01\.png\] height and width must be whole numbers, got 8\.5x12"),
    (_set(15, -1.0), r"must have bounds with 0 < near < far in its last two columns, got -1 and 9"),
    (_set(16, math.nan), r"must have bounds with 0 < near < far"),
]
COLMAP: list[tuple[Change, str]] = [
    (_empty_model, r"must hold at least one posed photograph, got none; export"),
    (_remove("images/01.png"), r"images must hold the photographs of .*0, got no 01\.png; copy"),
    (_remove_all, r"must hold the photographs of the model in images, got none of 00\.png, 01\.png, 02\.png; copy"),
    (_photo((10, 8)), r"01\.png must have the size of its camera, 12x8, .* got 10x8"),
    (_bin("cameras", 12, "i", 5), r"camera 7\] camera model must be one of .*, got OPENCV_FISHEYE; run COLMAP's image"),
    (_bin("cameras", 12, "i", 99), r"camera 7\] camera model must be one of .*, got number 99; run"),
    (_bin("cameras", 32, "d", -9.0), r"camera 7\] fl_x must be more than 0, got -9\.0"),
    (_bin("cameras", 48, "d", math.nan), r"camera 7\] cx must be finite, got nan"),
    (_bin("images", 12, "d", math.nan), r"image 00\.png\] pose must be finite"),
    (_bin("images", 12, "d", 3.0), r"image 00\.png\] rotation must be a quaternion of norm 1 within 0\.001, got"),
    (_bin("images", 68, "I", 77), r"must name cameras of cameras\.bin, got 77 for 00\.png; export"),
    (_text("cameras", "OPENCV", "FOV"), r"cameras\.txt line 2\] camera model must be one of .*, got FOV; run"),
    (_text("cameras", "OPENCV", "PINHOLE"), r"camera 7\] PINHOLE must have 4 parameters, got 8; export"),
    (_text("cameras", "9.0", "nine"), r"cameras\.txt line 2\] must be a row of COLMAP's cameras\.txt, got '7 OPENCV"),
    (_text("images", "\n\n", "\n"), r"images\.txt line 2\] must be a row of COLMAP's images\.txt, got '3 "),
    (_text("images", "01.png", "00.png"), r"must name each photograph once, got images/00 twice"),
    (lambda root: (root / "sparse" / "0" / "cameras.bin").write_bytes(b""), r"cameras\.bin must hold .* got 0 bytes"),
]
WRITERS = {"transforms": write_transforms, "llff": write_llff, "colmap": write_colmap}
CASES = [
    (name, change, words)
    for name, cases in (("transforms", TRANSFORMS), ("llff", LLFF), ("colmap", COLMAP))
    for change, words in cases
]


@pytest.mark.parametrize(("name", "change", "words"), CASES)
def test_one_line(tmp_path: Path, name: str, change: Change, words: str) -> None:
    WRITERS[name](tmp_path, ring(3))
    load_scene(tmp_path, format=name)  # it loads before it is broken
    change(tmp_path)
    with pytest.raises(InputError, match=words) as raised:
        load_scene(tmp_path, format=name)
    assert str(raised.value).startswith("[")
    assert "\n" not in str(raised.value)


def test_the_command_says_it_on_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_colmap(tmp_path / "capture", ring(3))
    _bin("cameras", 12, "i", 5)(tmp_path / "capture")
    assert main(["train", "--data", str(tmp_path / "capture"), "--out", str(tmp_path / "run"), "--steps", "1"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "got OPENCV_FISHEYE" in error


@pytest.mark.parametrize(
    ("name", "words"),
    [("blender", "transforms_train"), ("colmap", "a COLMAP model"), ("llff", "poses_bounds.npy must")],
)
def test_a_forced_format_that_is_not_there(tmp_path: Path, name: str, words: str) -> None:
    write_transforms(tmp_path, ring(3))
    with pytest.raises(InputError, match=words):
        load_scene(tmp_path, format=name)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"format": "usd"}, r"--format must be one of auto, blender, .* got usd"),
        ({"splits": ["dev"]}, r"splits must name some of train, val, test, got 'dev'"),
        ({"downscale": 9}, r"--downscale must be at most 8 for .*01.png of 12x8 pixels, got 9"),
    ],
)
def test_arguments(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        load_scene(write_transforms(tmp_path, ring(3)), **options)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"path must be an existing folder, got .*gone \(nothing there\); give the"):
        load_scene(tmp_path / "gone")
