"""LPIPS: weights that the user has, and no network on any way."""

from __future__ import annotations

import importlib.util
import json
import socket
import sys
import types
from pathlib import Path

import pytest
import torch
from torch import nn

from nerf_metal.cli import main
from nerf_metal.train.perceptual import FILES, Lpips
from nerf_metal.util.errors import InputError
from tests.train.test_evaluation import run

__all__ = ["run"]  # the fixture
CONVOLUTIONS = {  # of torchvision's networks: place, width and size of the kernel
    "alex": [(0, 64, 11), (3, 192, 5), (6, 384, 3), (8, 256, 3), (10, 256, 3)],
    "vgg": [
        *((0, 64, 3), (2, 64, 3), (5, 128, 3), (7, 128, 3), (10, 256, 3), (12, 256, 3), (14, 256, 3)),
        *((17, 512, 3), (19, 512, 3), (21, 512, 3), (24, 512, 3), (26, 512, 3), (28, 512, 3)),
    ],
}


@pytest.fixture(autouse=True)
def no_network(monkeypatch, tmp_path):
    """Whoever asks for a download or a connection fails; torch hub's cache is empty."""

    def refuse(*args, **options):
        raise AssertionError(f"a download was tried: {args}")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))


@pytest.fixture
def package(monkeypatch):
    """In place of ``lpips`` 0.1.4, which brings torchvision: the same call, and the same names of layers; the distance
    is that of the first layer's features, without the weights of the measure."""

    class Backbone(nn.Module):
        def __init__(self, net: str) -> None:
            super().__init__()
            width = 3
            for number, (place, wider, size) in enumerate(CONVOLUTIONS[net], 1):
                part = nn.Sequential()
                part.add_module(str(place), nn.Conv2d(width, wider, size))
                self.add_module(f"slice{number}", part)
                width = wider
            self.requires_grad_(False)

    class LPIPS(nn.Module):
        def __init__(self, pretrained=True, net="alex", pnet_rand=False, verbose=True) -> None:
            assert pretrained and not verbose, "the measure's own weights, and no words"
            if not pnet_rand:
                torch.hub.load_state_dict_from_url("of torchvision's weights")
            super().__init__()
            self.net = Backbone(net)

        def forward(self, one, other, normalize=False):
            assert normalize, "pictures are in [0, 1]"
            features = [self.net.slice1(2 * picture - 1) for picture in (one, other)]
            return (features[0] - features[1]).square().mean().view(1, 1, 1, 1)

    module = types.ModuleType("lpips")
    module.LPIPS = LPIPS  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lpips", module)


def write_weights(path: Path, net: str, scale: float = 0.02) -> Path:
    """A file like torchvision's: features by their places, and a classifier that nobody needs."""
    generator = torch.Generator().manual_seed(0)
    weights, width = {"classifier.1.weight": torch.zeros(2, 2)}, 3
    for place, wider, size in CONVOLUTIONS[net]:
        weights[f"features.{place}.weight"] = torch.randn(wider, width, size, size, generator=generator) * scale
        weights[f"features.{place}.bias"] = torch.zeros(wider)
        width = wider
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(weights, path)
    return path


def test_the_users_file_is_what_measures(package, tmp_path):
    """Twice the weights are four times the squared distance; equal pictures are at 0; numbers by hand."""
    small = Lpips(str(write_weights(tmp_path / "a.pth", "alex")))
    large = Lpips(str(write_weights(tmp_path / "b.pth", "alex", scale=0.04)))
    one, other = torch.rand(2, 33, 40, 3, generator=torch.Generator().manual_seed(1))
    assert small.net == "alex" and small(one, one) == 0.0
    assert large(one, other) == pytest.approx(4 * small(one, other), rel=1e-4)
    kernel = torch.load(tmp_path / "a.pth", weights_only=True)["features.0.weight"]
    by_hand = nn.functional.conv2d(2 * (one - other).movedim(-1, 0)[None], kernel).square().mean()
    assert small(one, other) == pytest.approx(float(by_hand), rel=1e-4)


@pytest.mark.parametrize("net", FILES)
def test_torch_hubs_cache_is_used_as_it_is(package, tmp_path, net):
    """By the network's name, from where torchvision has left its file; the network is known by its first layer."""
    with pytest.raises(
        InputError, match=rf"--lpips must find .* got no file .*hub/checkpoints/{FILES[net]}; nothing is"
    ):
        Lpips(net)
    path = write_weights(tmp_path / "hub" / "checkpoints" / FILES[net], net)
    assert Lpips(net).net == net == Lpips(str(path)).net
    with pytest.raises(InputError, match=rf"--lpips {net} must have pictures of at least \d\d pixels .* got 40 x 8;"):
        Lpips(net)(torch.zeros(8, 40, 3), torch.zeros(8, 40, 3))


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "a list", "another network", "a layer missing"])
def test_files_that_are_no_such_weights(package, tmp_path, damage):
    """One line that names the file, and what would do."""
    path = write_weights(tmp_path / "weights.pth", "alex")
    if damage in ("empty", "text"):
        path.write_bytes(b"not weights" if damage == "text" else b"")
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:5000])
    elif damage == "a list":
        torch.save([1, 2], path)
    elif damage == "another network":
        torch.save({"features.0.weight": torch.zeros(64, 3, 7, 7)}, path)
    else:
        weights = torch.load(path, weights_only=True)
        del weights["features.8.bias"]
        torch.save(weights, path)
    with pytest.raises(
        InputError, match=r"must be the weights of torchvision's AlexNet or VGG16, got .*weights\.pth \("
    ):
        Lpips(str(path))


def test_eval_with_lpips(package, run, tmp_path, capsys):
    """A column in the table, the CSV and the JSON, with the network's name; the mean is that of the views."""
    path = write_weights(tmp_path / "weights.pth", "alex")
    assert main(["eval", str(run), "--device", "cpu", "--lpips", str(path)]) == 0
    about = json.loads((run / "evaluation.json").read_text())
    values = [view["lpips"] for view in about["per_view"]]
    assert len(set(values)) == 5 and min(values) > 0
    assert about["lpips"] == pytest.approx(sum(values) / 5) and about["lpips_net"] == "alex"
    assert (run / "evaluation.csv").read_text().splitlines()[0] == "name,mse,psnr,ssim,blank_psnr,lpips"
    printed = capsys.readouterr().out
    assert f"LPIPS {about['lpips']:.3f}" in printed and "LPIPS |" in printed


@pytest.mark.skipif(importlib.util.find_spec("lpips") is not None, reason="the package lpips is installed")
def test_without_the_package(run, capsys):
    """The extra is named, before a minute is spent on pictures."""
    assert main(["eval", str(run), "--device", "cpu", "--lpips", "alex"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: [eval --lpips] lpips must be installed, got ") and error.count("\n") == 1
    assert error.endswith("pip install 'nerf-metal[lpips]'\n")


@pytest.mark.skipif(importlib.util.find_spec("lpips") is None, reason="the package lpips is not installed")
@pytest.mark.parametrize("net", FILES)
def test_the_package_itself(tmp_path, net):
    """The package's network holds the file's weights, and its distance is 0 for equal pictures alone."""
    measure = Lpips(str(write_weights(tmp_path / "weights.pth", net)))
    one, other = torch.rand(2, 40, 33, 3, generator=torch.Generator().manual_seed(1))
    assert measure.net == net and measure(one, one) == 0.0 and 0.0 < measure(one, other) < 10.0
    weights = torch.load(tmp_path / "weights.pth", weights_only=True)
    expected = (values for name, values in weights.items() if name.startswith("features."))
    for held, value in zip(measure._model.get_submodule("net").parameters(), expected, strict=True):
        assert torch.equal(held, value)
