"""Damaged and foreign checkpoints as a person meets them: at the command line."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch

from nerf_metal.cli import main
from nerf_metal.train.loading import load_model
from nerf_metal.train.checkpoint import find_checkpoint, save_checkpoint
from nerf_metal.train.run_folder import RunFolder
from tests.cli.test_cli import TINY

BEST, LAST = 3, 5


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A run of two steps, with a best checkpoint and a last one behind its own."""
    path, scene = tmp_path_factory.mktemp("made") / "run", str(tmp_path_factory.mktemp("scene") / "scene")
    assert main(["make-scene", scene, "--resolution", "16", "--train-views", "4", "--test-views", "2"]) == 0
    words = [*TINY, "--data", scene, "--downscale", "1", "--steps", "2", "--out", str(path), "--quiet"]
    assert main(["train", *words]) == 0
    folder = RunFolder(path)
    model, first = load_model(folder)
    optimizer = torch.optim.Adam(model.module.parameters())
    for step, psnr in ((BEST, 30.0), (LAST, 8.0)):
        save_checkpoint(
            folder.checkpoints,
            model.module,
            optimizer,
            first.config,
            step=step,
            train_seconds=1.0,
            near=first.near,
            far=first.far,
            psnr=psnr,
            keep=3,
        )
    return path


@pytest.fixture
def run(made, tmp_path, capsys) -> Path:
    """A copy to break; what making it printed is read."""
    capsys.readouterr()
    return Path(shutil.copytree(made, tmp_path / "run"))


def cut(run: Path, step: int) -> str:
    """Cut off a checkpoint's weights; returns their name."""
    path = run / "checkpoints" / f"step_{step:08d}.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    return path.name


def test_last_best_and_damaged(run, capsys):
    """--checkpoint chooses; where a checkpoint is damaged the one before is used, and stderr says so."""

    def evaluated(*args: str) -> int:
        assert main(["eval", str(run), "--views", "1", "--device", "cpu", *args]) == 0
        return json.loads((run / "evaluation.json").read_text())["step"]

    assert (evaluated(), evaluated("--checkpoint", "best")) == (LAST, BEST)
    assert capsys.readouterr().err == ""
    name = cut(run, LAST)
    assert evaluated() == BEST
    note = f"note: {name} is damaged: it has "
    error = capsys.readouterr().err
    assert error.startswith(note) and error.endswith(f"; the checkpoint of step {BEST} is used\n")
    assert main(["render", str(run), "--views", "1", "--device", "cpu", "--checkpoint", "best"]) == 0
    assert capsys.readouterr().err.startswith(note)  # and a progress bar
    assert main(["train", "--resume", str(run), "--steps", "6"]) == 0
    assert note in capsys.readouterr().out
    assert find_checkpoint(run / "checkpoints").step == 6


def test_all_damaged(run, capsys):
    """Bad input: exit code 2 and one line that names them."""
    names = [cut(run, int(path.stem[5:])) for path in (run / "checkpoints").glob("step_*.json")]
    assert len(names) >= 3
    for args in (["eval", str(run)], ["train", "--resume", str(run), "--steps", "9"]):
        assert main([*args, "--device", "cpu"]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: [checkpoint] ") and error.count("\n") == 1
        assert all(f"{name} is damaged" in error for name in names)


def test_a_newer_version(run, capsys):
    """Bad input: exit code 2 and one line that says how to get on."""
    path = run / "checkpoints" / f"step_{LAST:08d}.json"
    about = {**json.loads(path.read_text()), "format": 3, "unheard_of": [1]}
    del about["checksum"]
    checksum = hashlib.sha256(json.dumps(about, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    path.write_text(json.dumps({**about, "checksum": checksum}))
    for args in (["eval", str(run)], ["render", str(run)], ["train", "--resume", str(run), "--steps", "9"]):
        assert main([*args, "--device", "cpu"]) == 2
        error = capsys.readouterr().err
        assert error == (
            f"error: [checkpoint] {path} must have format 2, got 3; use the version of nerf_metal that wrote it "
            "(newer than this one: pip install -U nerf-metal)\n"
        )
