"""A new format is one file and one line in the table: everything else follows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nerf_metal.cli import main
from nerf_metal.data import load_scene
from nerf_metal.data.cameras import Intrinsics, check_c2w
from nerf_metal.data.load import READERS, detect_format
from nerf_metal.data.readers.capture import Capture, Frame, check_camera, frame_name, in_order
from nerf_metal.data.readers.reader import Reader
from nerf_metal.util.errors import InputError
from tests.data.messages import check_message
from tests.data.written import ring, save_photos, write_llff

FILE = "poses.csv"  # name, focal length, width, height, and the 16 numbers of the pose: the format of this test


def read_csv(root: Path) -> Capture:
    frames = []
    for number, line in enumerate((root / FILE).read_text().splitlines(), 1):
        where = f"load_scene: {root / FILE} line {number}"
        name, *values = line.split(",")
        focal, width, height, *pose = map(float, values)
        camera = Intrinsics(focal, focal, 0.5 * width, 0.5 * height, int(width), int(height))
        c2w = np.array(pose).reshape(4, 4)
        check_c2w(c2w, where)
        frames.append(Frame(frame_name(name), root / name, check_camera(camera, where), c2w))
    return Capture(root, in_order(frames))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nine photographs in a format that the table now lists."""
    reader = Reader("csv", f"{FILE} (a test)", lambda root: (root / FILE).is_file(), read_csv)
    monkeypatch.setitem(READERS, reader.name, reader)
    shots = ring(9)
    save_photos(tmp_path / "images", shots)
    rows = [(f"images/{shot.name}", 9.0, *shot.size, *shot.opengl.ravel()) for shot in shots]
    (tmp_path / FILE).write_text("\n".join(",".join(map(str, row)) for row in rows))
    return tmp_path


def test_it_is_detected_split_placed_and_opened(folder: Path) -> None:
    assert detect_format(folder) == "csv"
    scene = load_scene(folder, hold_out=4, downscale=2)
    assert (scene.format, scene.cascades) == ("csv", 5)
    assert scene.splits["test"].names == ["images/00", "images/04", "images/08"]
    assert len(scene.splits["train"]) == 6
    assert (scene.splits["train"].camera(0).width, int(scene.splits["train"].image(0)[0, 0, 0])) == (6, 1)
    assert float(scene.splits["train"].c2w[:, :3, 3].mean(0).abs().max()) < 1.0


def test_the_order_of_the_table_decides_and_the_other_format_is_told(folder: Path) -> None:
    write_llff(folder, ring(9))
    assert detect_format(folder) == "llff"
    assert "--format csv" in load_scene(folder).notes[0] and "poses.csv (a test)" in load_scene(folder).notes[0]
    assert load_scene(folder, format="csv").format == "csv"


def test_the_commands_take_it_and_the_messages_list_it(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "cameras.png"
    assert main(["inspect", str(folder), "--format", "csv", "--out", str(picture)]) == 0
    assert "format csv" in capsys.readouterr().out and picture.is_file()
    assert main(["inspect", str(folder), "--format", "cvs", "--out", str(picture)]) == 2
    assert "csv" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError) as raised:
        load_scene(tmp_path / "empty")
    check_message(raised.value, "poses.csv (a test)", "empty folder")


def test_a_bad_row_is_said_in_one_line(folder: Path) -> None:
    text = (folder / FILE).read_text()
    (folder / FILE).write_text(text.replace(",9.0,", ",-9.0,", 1))
    with pytest.raises(InputError) as raised:
        load_scene(folder)
    check_message(raised.value, "poses.csv line 1] fl_x", "-9.0")
