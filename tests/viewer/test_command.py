"""``nerf-metal view``."""

import os
import signal
import threading

import pytest
import torch

from nerf_metal.cli import main
from nerf_metal.train.loop import train
from nerf_metal.train.run_folder import RunFolder
from nerf_metal.util.errors import InputError
from nerf_metal.viewer.viewer import Viewer

pytestmark = pytest.mark.usefixtures("needs_viser")


@pytest.fixture
def run(cube_scene, tiny_config, monkeypatch):
    monkeypatch.setattr("nerf_metal.train.scenes.open_scene", lambda config, **_: cube_scene)
    folder = RunFolder.create(tiny_config, cube_scene.name)
    train(tiny_config, cube_scene, folder, torch.device("cpu"))
    return str(folder.path)


def test_it_serves_until_ctrl_c(run, monkeypatch, capsys):
    served = []
    serve = Viewer.serve

    def serve_shortly(self, model, stop):
        served.append(self.address)
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        serve(self, model, stop)

    monkeypatch.setattr(Viewer, "serve", serve_shortly)
    assert main(["view", run, "--device", "cpu", "--port", "0"]) == 0
    out, err = capsys.readouterr()
    assert out.count("\n") == 1 and served[0] in out and err == ""


def test_notes_about_a_taken_port_and_an_open_host(run, viewer, monkeypatch, capsys):
    monkeypatch.setattr(Viewer, "serve", lambda self, model, stop: None)
    taken = viewer.server.get_port()
    assert main(["view", run, "--device", "cpu", "--host", "0.0.0.0", "--port", str(taken)]) == 0
    err = capsys.readouterr().err.splitlines()
    assert err[0].startswith(f"note: port {taken} is taken")
    assert err[1].startswith("note: ") and "network" in err[1] and "password" in err[1]


def test_a_run_whose_photographs_are_gone(run, monkeypatch, capsys):
    def gone(config, **_):
        raise InputError("[data] gone")

    monkeypatch.setattr("nerf_metal.train.scenes.open_scene", gone)
    monkeypatch.setattr(Viewer, "serve", lambda self, model, stop: None)
    assert main(["view", run, "--device", "cpu", "--port", "0"]) == 0
    assert "[data] gone" in (said := capsys.readouterr().err) and said.startswith("note: ") and said.count("\n") == 1


def test_no_run_there(tmp_path, capsys):
    assert main(["view", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error: [view] the run must be ")
