"""The curve of PSNR over seconds: run, read again, drawn beside others, and refused in words."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import imageio.v3 as iio
import pytest

from benchmarks import time_to_quality
from benchmarks.time_to_quality import Curve


def main(monkeypatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["time_to_quality", *map(str, arguments)])
    return time_to_quality.main()


def curve(path, label: str, points: dict[float, float]):
    about = {"blank_psnr": 10.0}
    path.write_text(json.dumps({"label": label, "about": about, "seconds": [*points], "psnr": [*points.values()]}))
    return path


def test_seconds_to_a_quality_lie_between_the_points() -> None:
    found = Curve("", {}, [10.0, 20.0, 30.0], [20.0, 26.0, 25.0])
    assert found.reached(19.0) == 10.0  # sooner than the first point nobody looked
    assert found.reached(23.0) == 15.0
    assert found.reached(26.0) == 20.0
    assert found.reached(26.5) is None


def test_a_run_is_recorded_and_kept(cube_scene, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(time_to_quality, "open_scene", lambda config: cube_scene)
    monkeypatch.chdir(tmp_path)
    options = ["--seconds", 4, "--every", 1, "--views", 2, "--device", "cpu", "--out", tmp_path / "new"]
    assert main(monkeypatch, *options) == 0
    written = json.loads((tmp_path / "new" / "time_to_quality.json").read_text())
    assert written["about"]["preset"] == "fast" and written["about"]["views"] == 2
    assert written["about"]["size"] == [16, 16] and written["about"]["device"] == "cpu"
    assert 1 < len(written["seconds"]) == len(written["psnr"])
    assert written["seconds"] == sorted(written["seconds"]) and written["seconds"][-1] >= 4.0
    (run,) = (tmp_path / "runs").iterdir()
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["psnr"] for line in lines if line["event"] == "eval"] == written["psnr"]
    assert str(run.name) in capsys.readouterr().out


def test_curves_are_drawn_together(tmp_path, monkeypatch, capsys) -> None:
    one = curve(tmp_path / "one.json", "one", {10: 20.0, 20: 25.5})
    two = curve(tmp_path / "two.json", "two", {10: 28.0})
    log = tmp_path / "nerfacto.json"
    log.write_text(json.dumps([{"seconds": 60, "psnr": 19.0}, {"seconds": 300, "psnr": 21.5}]))
    assert main(monkeypatch, "--plot", one, two, "--nerfstudio", log, "--out", tmp_path) == 0
    assert iio.imread(tmp_path / "time_to_quality.png").shape[:2] == (600, 960)
    said = capsys.readouterr().out
    assert said.splitlines() == [
        "one: 20 dB 10 s, 25 dB 19 s",
        "two: 20 dB 10 s, 25 dB 10 s, 28 dB 10 s",
        "nerfstudio: 20 dB 156 s",
    ]


def test_a_plain_installation_is_enough() -> None:
    """Whoever only wants the curve has no need of what the tests and the races need."""
    code = (
        "import sys; sys.modules['pytest'] = sys.modules['pytest_benchmark'] = None; import benchmarks.time_to_quality"
    )
    root = Path(__file__).resolve().parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True).stderr == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--plot", "absent.json"], "absent.json must be a time_to_quality.json"),
        (["--plot", "broken.json"], "broken.json must be a time_to_quality.json"),
        (["--plot", "one.json", "--nerfstudio", "broken.json"], "must be a list of objects with seconds and psnr"),
    ],
)
def test_other_files_are_refused_in_one_line(arguments, words, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.json").write_text('{"label": 1')
    curve(tmp_path / "one.json", "one", {10: 20.0})
    assert main(monkeypatch, *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: [time_to_quality]") and words in line
    assert not (tmp_path / "time_to_quality.png").exists()
