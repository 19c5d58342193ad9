"""The run folder: never over anything, metrics line by line, pictures that show both sides."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import imageio.v3 as iio
import pytest
import torch

from nerf_metal.train.run_folder import RunFolder, beside_each_other
from nerf_metal.util.errors import InputError


def test_an_existing_folder_is_never_touched(tmp_path, tiny_config):
    """A folder with anything in it is refused; with --overwrite too, unless it holds a run."""
    out = tmp_path / "run"
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match=r"--out must be a new or empty folder, got .*run, which exists; "):
        RunFolder.create(tiny_config, "cube")
    forced = dataclasses.replace(tiny_config, overwrite=True)
    with pytest.raises(InputError, match=r"--overwrite must name a folder of a run, got .*run without a run's"):
        RunFolder.create(forced, "cube")
    (out / "config.json").write_text('{"kind": "of another program"}')
    with pytest.raises(InputError, match=r"--overwrite must name a folder of a run"):
        RunFolder.create(forced, "cube")
    assert (out / "thesis.tex").read_text() == "years of work"


def test_a_run_is_replaced_only_on_request(tmp_path, tiny_config):
    """A second run into the folder needs --overwrite, and then starts clean."""
    RunFolder.create(tiny_config, "cube")
    folder = RunFolder.create(tiny_config, "cube")  # the first never got to a line of metrics: nothing to lose
    folder.append_metrics(event="train", step=1)
    with pytest.raises(InputError, match=r"add --overwrite"):
        RunFolder.create(tiny_config, "cube")
    again = RunFolder.create(dataclasses.replace(tiny_config, overwrite=True), "cube")
    assert list(again.read_metrics()) == []


def test_an_empty_folder_and_a_name_of_its_own(tmp_path, tiny_config, monkeypatch):
    """An empty folder will do; without --out the name comes from scene, preset and time, fit for a file
    system."""
    (tmp_path / "run").mkdir()
    assert RunFolder.create(tiny_config, "cube").checkpoints.is_dir()
    monkeypatch.chdir(tmp_path)
    path = RunFolder.create(dataclasses.replace(tiny_config, out=None), "a toy/../box").path
    assert path.parent == path.parent.parent / "runs"
    assert path.name.startswith("a-toy-..-box-small-2")


@pytest.mark.parametrize("out", ["file/run", "file"])
def test_what_cannot_be_a_folder(tmp_path, tiny_config, out):
    """A file in the way is bad input, not a crash, and the file stays."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match=r"--out must be a (folder that can be written|new or empty folder), got "):
        RunFolder.create(dataclasses.replace(tiny_config, out=str(tmp_path / out)), "cube")
    assert (tmp_path / "file").read_text() == "x"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(tmp_path, tiny_config):
    """The system's reason is in the message."""
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(InputError, match=r"got .*\(Permission denied\); give another --out"):
        RunFolder.create(dataclasses.replace(tiny_config, out=str(tmp_path / "locked" / "run")), "cube")


def test_config_comes_back(tmp_path, tiny_config):
    """open() gives the options of create(), and refuses what is no run."""
    RunFolder.create(tiny_config, "cube")
    _, config = RunFolder.open(tiny_config.out, "eval")
    assert config == dataclasses.replace(tiny_config, quiet=False)  # quiet is of the call, not of the run
    with pytest.raises(InputError, match=r"\[eval\] the run must be a folder with a config.json, got "):
        RunFolder.open(tmp_path, "eval")


def test_metrics_are_lines_of_json(tiny_config):
    """Appended and readable at once, cut at a second, and never NaN. Steps may go back, as after a rollback."""
    folder = RunFolder.create(tiny_config, "cube")
    for count, step in enumerate((10, 20, 5), 1):
        folder.append_metrics(event="train", step=step, train_seconds=count * 0.5, loss=0.5)
        assert len(folder.metrics.read_text().splitlines()) == count
    with pytest.raises(ValueError, match="JSON"):
        folder.append_metrics(event="train", step=40, train_seconds=9.0, loss=float("nan"))
    folder.cut_metrics(0.9999)  # seconds of a checkpoint; the lines have milliseconds
    assert [json.loads(line)["step"] for line in folder.metrics.read_text().splitlines()] == [10, 20]


def test_quick_render_shows_prediction_left_and_truth_right(tiny_config):
    """Rows of (prediction, truth), enlarged pixel by pixel, values kept; the name carries the epoch."""
    folder = RunFolder.create(tiny_config, "cube")
    red, blue = torch.tensor([1.0, 0, 0]).expand(4, 5, 3), torch.tensor([0, 0, 1.0]).expand(4, 5, 3)
    path = folder.save_quick_render(3, [(red, blue), (blue, red)])
    assert path.name == "quick_render_epoch_03.png"
    picture = iio.imread(path)
    assert picture[0, 0].tolist() == picture[-1, -1].tolist() == [255, 0, 0]
    assert picture[0, -1].tolist() == picture[-1, 0].tolist() == [0, 0, 255]
    assert 800 <= picture.shape[1] <= 820
    assert beside_each_other([(red, blue)]).shape == (4 * 80, 2 * 400 + 8, 3)
    assert not list(folder.path.glob(".*"))


def test_a_full_disk_leaves_whole_lines(tiny_config):
    """A line that does not fit is not there at all, and the next one is whole."""
    code = (
        "import resource, signal, sys; from pathlib import Path; from nerf_metal.train.run_folder import RunFolder\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "folder = RunFolder(Path(sys.argv[1]))\n"
        "folder.append_metrics(event='train', step=1)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (folder.metrics.stat().st_size + 10, resource.RLIM_INFINITY))\n"
        "try:\n    folder.append_metrics(event='train', step=2)\n"
        "except OSError as error:\n    print('refused', error.errno)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n"
        "folder.append_metrics(event='train', step=3)\n"
    )
    folder = RunFolder.create(tiny_config, "cube")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder.path)], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout.startswith("refused")
    assert [line["step"] for line in folder.read_metrics()] == [1, 3]
