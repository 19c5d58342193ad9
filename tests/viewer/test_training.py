"""The page during a training run: the run is the same, the page shows it, and it closes when the run fails."""

import dataclasses
import json
import socket

import pytest
import torch

from nerf_metal import report
from nerf_metal.cli import train as cli_train
from nerf_metal.train import loop
from nerf_metal.train.loop import train
from nerf_metal.train.options import preset_config
from nerf_metal.train.run_folder import RunFolder
from nerf_metal.viewer.live_picture import Viewpoint
from nerf_metal.viewer.training import TrainingViewer

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("needs_viser")


@pytest.fixture(autouse=True)
def no_report(monkeypatch):
    """Skip the report: its plots take longer than these runs."""
    monkeypatch.setattr(report, "write_report", lambda folder: None)


class Restless(TrainingViewer):
    """A page without a browser that moves all the time and keeps its lines and pictures."""

    def __init__(self, viewer, pose):
        super().__init__(viewer)
        self.pose, self.lines, self.pictures, self.closed = pose, [], [], 0
        viewer.live._send = lambda client, picture: self.pictures.append(picture)

    def line(self, event, values):
        super().line(event, values)
        self.lines.append({"event": event, **values})

    def after_step(self, model):
        self.viewer.live.look(1, Viewpoint(self.pose, 0.7, 160, 100))
        super().after_step(model)


@pytest.mark.parametrize("preset", ["small", "fast"])
def test_a_run_is_the_same_with_and_without_a_page(preset, viewer, cube_scene, tiny_config, tmp_path):
    config = tiny_config
    if preset == "fast":
        config = dataclasses.replace(
            preset_config("fast"),
            out=config.out,
            max_seconds=None,
            steps=12,
            levels=4,
            log2_table_size=10,
            hidden_width=16,
            grid_resolution=16,
            march_steps=64,
            batch_samples=1024,
            device="cpu",
            quiet=True,
            eval_views=2,
        )
    config = dataclasses.replace(config, eval_every_seconds=None, steps=12)
    results = []
    observer = Restless(viewer, cube_scene.splits["test"].c2w[0])
    for name, observers in (("alone", ()), ("viewed", (observer,))):
        folder = RunFolder.create(dataclasses.replace(config, out=str(tmp_path / name)), cube_scene.name)
        results.append(train(config, cube_scene, folder, CPU, observers=observers))
    alone, viewed = (result.model.state_dict() for result in results)
    assert observer.pictures
    for key, value in alone.items():
        assert torch.equal(value, viewed[key]), key
    written = [json.loads(line) for line in (tmp_path / "viewed" / "metrics.jsonl").read_text().splitlines()]
    assert observer.lines == written
    assert "PSNR of batches" in observer.status._text.content


def test_nothing_is_rendered_without_an_open_page(viewer):
    class Untouched:
        box = torch.zeros(2, 3)

        def render(self, *_):
            raise AssertionError

    TrainingViewer(viewer).after_step(Untouched())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def words(cube_scene, tmp_path, monkeypatch):
    """The options of a run with a page, and the page's port."""
    monkeypatch.setattr("nerf_metal.train.scenes.open_scene", lambda config, **_: cube_scene)
    monkeypatch.setattr(cli_train, "_print_end", lambda folder: None)
    port = free_port()
    options = f"--preset small --steps 3 --device cpu --hidden-width 16 --depth 1 --view --view-port {port}"
    return [*options.split(), "--out", str(tmp_path / "run")], port


def open_at(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_the_page_stays_after_the_training_until_asked_to_end(words, monkeypatch, capsys):
    stayed = []
    monkeypatch.setattr(TrainingViewer, "stay", lambda self, stop: stayed.append(open_at(words[1])))
    assert cli_train.run(words[0]) == 0
    assert stayed == [True] and not open_at(words[1])
    out = capsys.readouterr().out
    assert f"open http://127.0.0.1:{words[1]} to look on" in out
    assert f"the page stays at http://127.0.0.1:{words[1]} (Ctrl-C ends)" in out


def test_the_page_closes_with_a_run_that_fails(words, monkeypatch):
    def die(*args, observers, **options):
        assert open_at(words[1]) and len(observers) == 1
        raise RuntimeError("died")

    monkeypatch.setattr(loop, "train", die)
    with pytest.raises(RuntimeError, match="died"):
        cli_train.run(words[0])
    assert not open_at(words[1])
