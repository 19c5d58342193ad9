"""One quick test of every room, to run after each change: ``python -m tests smoke``.

It finds what is broken altogether: an op, the loop, a reader, a command. The thorough tests are those of the rooms.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nerf_metal.cli import COMMANDS, main
from nerf_metal.data.load import load_scene
from nerf_metal.data.scene import Scene
from nerf_metal.data.write import write_scene
from nerf_metal.selftest.modes import HOST, STRICT_SIMD, Mode
from nerf_metal.selftest.table import OPS
from tests.conftest import cube_split

pytestmark = pytest.mark.smoke
ROOT = Path(__file__).resolve().parents[2]
CASES = 3  # of each op: the first, the middle and the last of its list, which goes from small to awkward
SIZE = 16  # pixels of a picture's side


def some(cases: tuple[Any, ...]) -> list[Any]:
    """The first, the middle and the last case."""
    return [cases[(len(cases) - 1) * i // (CASES - 1)] for i in range(CASES)]


def test_every_shader_has_cases() -> None:
    assert {op.name for op in OPS} == {path.stem for path in (ROOT / "metal").glob("*.metal")}


@pytest.mark.parametrize("op", OPS, ids=lambda op: f"{op.name} {op.what}".strip())
@pytest.mark.parametrize("mode", [HOST, STRICT_SIMD], ids=lambda mode: mode.name)
def test_every_op_agrees_with_its_reference(op: Any, mode: Mode) -> None:
    """Forward and backward; lane by lane the first case alone, which is slow."""
    for case in some(op.cases) if mode is HOST else op.cases[:1]:
        op.compare(case, op.run(case, mode))


@pytest.fixture(scope="module")
def scene_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cube in 9 views, as NeRF-synthetic has it."""
    splits = {"train": cube_split("train", 8, SIZE, 0.0), "test": cube_split("test", 1, SIZE, 0.3)}
    box = torch.tensor([[-1.5] * 3, [1.5] * 3])
    folder = tmp_path_factory.mktemp("smoke") / "cube"
    write_scene(Scene("cube", "test", splits, box, 2.0, 6.0, []), folder)
    return folder


def trained(scene: Path, run: Path, options: str) -> dict[str, list[dict[str, Any]]]:
    """Train on a scene and return the lines of the run's record by their event."""
    words = ["--data", str(scene), "--out", str(run), "--device", "cpu", "--downscale", "1", "--quiet"]
    assert main(["train", *words, *options.split()]) == 0
    every = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {event: [line for line in every if line["event"] == event] for event in ("train", "eval")}


def test_the_classic_networks_train(scene_folder: Path, tmp_path: Path, plain_plots: None) -> None:
    small = "--preset small --steps 20 --hidden-width 16 --batch-rays 64 --num-samples 8 --num-importance 8"
    assert trained(scene_folder, tmp_path / "run", small)["eval"]


def test_a_run_learns_and_is_rendered_measured_exported_and_reported(
    scene_folder: Path, tmp_path: Path, plain_plots: None
) -> None:
    small = "--steps 40 --batch-samples 4096 --levels 4 --log2-table-size 12 --grid-resolution 32"
    record = trained(scene_folder, tmp_path / "run", f"{small} --finest-resolution 64")
    first, last = (line["mse"] for line in record["train"])
    assert 0 < last < first
    run, out = str(tmp_path / "run"), str(tmp_path / "out")
    film = "--path orbit --frames 1 --width 8 --outputs rgb,depth,opacity --no-video"
    assert main(["render", run, "--out", out, *film.split()]) == 0
    assert any((tmp_path / "out").glob("*.png"))
    assert main(["eval", run]) == 0
    assert main(["export", run, "--resolution", "16", "--threshold", "0.01", "--out", out]) == 0
    assert (tmp_path / "out" / "mesh.ply").is_file()
    assert main(["report", run]) == 0
    assert (tmp_path / "run" / "SUMMARY.md").is_file()


def test_a_capture_is_read_and_inspected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four cameras around the origin, in instant-ngp's format."""
    frames = []
    for i, (x, y) in enumerate(((3, 0), (0, 3), (-3, 0), (0, -3))):
        Image.fromarray(np.full((SIZE, SIZE, 3), 60 * i, np.uint8)).save(tmp_path / f"{i}.png")
        back = np.array((x, y, 0)) / 3.0
        pose = np.eye(4)
        pose[:3] = np.stack((np.cross((0, 0, 1), back), (0, 0, 1), back, 3 * back), axis=-1)
        frames.append({"file_path": f"{i}.png", "transform_matrix": pose.tolist()})
    capture = {"fl_x": SIZE, "fl_y": SIZE, "cx": SIZE / 2, "cy": SIZE / 2, "w": SIZE, "h": SIZE, "frames": frames}
    (tmp_path / "transforms.json").write_text(json.dumps(capture))
    scene = load_scene(tmp_path, hold_out=4)
    assert [len(scene.splits[name]) for name in ("train", "test")] == [3, 1]
    monkeypatch.chdir(tmp_path)
    assert main(["inspect", "."]) == 0
    assert (tmp_path / "inspect.png").is_file()


def test_the_viewer_can_be_loaded() -> None:
    """The page itself is opened by tests/viewer."""
    pytest.importorskip("viser", reason="viser is not installed: pip install '.[view]'")
    from nerf_metal.viewer import viewer

    assert viewer.Viewer


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    assert "usage" in capsys.readouterr().out.lower()
