"""LPIPS, the distance of two pictures in the features of a network that knows photographs (Zhang et al. 2018): an
extra, and never a download."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nerf_metal.util.errors import InputError
from nerf_metal.util.extras import require

FILES = {"alex": "alexnet-owt-7be5be79.pth", "vgg": "vgg16-397923af.pth"}
"""The weights of ImageNet classifiers under torchvision's names, as torch hub's cache has them where any program has
asked for them. The few weights of the measure itself come with the package ``lpips``."""
FIRST_LAYERS: dict[tuple[int, ...], str] = {(64, 3, 11, 11): "alex", (64, 3, 3, 3): "vgg"}
LEAST_SIDE = {"alex": 31, "vgg": 16}
"""Pixels that leave one at the deepest layer."""


class Lpips:
    """The measure, on the CPU.

    Attributes:
        net: ``alex``, which the authors measure with, or ``vgg``, which papers on radiance fields report: the numbers
            of one say nothing beside those of the other.
    """

    def __init__(self, choice: str) -> None:
        """Load the weights.

        Args:
            choice: ``alex`` or ``vgg`` for the file in torch hub's cache, else the path of such a file.

        Raises:
            InputError: the package or the file is missing, or the file is no such network's.
        """
        path = Path(torch.hub.get_dir()) / "checkpoints" / FILES[choice] if choice in FILES else Path(choice)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torchvision's, about how lpips calls it
            package = _package()
            weights = _read(path)
            self.net = FIRST_LAYERS.get(tuple(weights["features.0.weight"].shape), "alex")
            # pnet_rand: a network without weights. With them torchvision would fetch the file.
            self._model: nn.Module = package.LPIPS(net=self.net, pnet_rand=True, verbose=False)
        _load(self._model.get_submodule("net"), weights, path)

    @torch.no_grad()
    def __call__(self, prediction: Tensor, truth: Tensor) -> float:
        """The distance of two pictures ``[H, W, 3]`` in [0, 1]; 0 for equal ones.

        Raises:
            InputError: they are too small for the network.
        """
        height, width, _ = truth.shape
        if min(height, width) < LEAST_SIDE[self.net]:
            raise InputError(
                f"[eval] --lpips {self.net} must have pictures of at least {LEAST_SIDE[self.net]} pixels along a side, "
                f"got {width} x {height}; leave it out"
            )
        pictures = (picture.cpu().movedim(-1, 0)[None] for picture in (prediction, truth))
        return float(self._model(*pictures, normalize=True))


def _package() -> Any:
    try:
        return require("lpips", extra="lpips", command="eval --lpips")
    except RuntimeError as error:  # a torchvision that was built for another torch
        raise InputError(
            f"[eval --lpips] torchvision must be the one for torch {torch.__version__}, got {error}; "
            "pip install -U torchvision"
        ) from None


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name."""
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
        if isinstance(weights, dict) and isinstance(weights.get("features.0.weight"), Tensor):
            return weights
        got = "another file"
    except FileNotFoundError:
        raise InputError(
            f"[eval] --lpips must find the weights of torchvision's network, got no file {path}; nothing is "
            "downloaded: put it there, or give the path of your copy: --lpips FILE.pth"
        ) from None
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        got = str(error).split("\n")[0][:80]
    raise _wrong(path, got)


def _load(net: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Fill a network whose ``slice2.3.weight`` is torchvision's ``features.3.weight``."""
    for name, parameter in net.named_parameters():
        source = weights.get(f"features.{name.split('.', 1)[1]}")
        if not isinstance(source, Tensor) or source.shape != parameter.shape:
            raise _wrong(path, f"one whose {name} differs")
        parameter.data.copy_(source)


def _wrong(path: Path, got: str) -> InputError:
    return InputError(
        f"[eval] --lpips must be the weights of torchvision's AlexNet or VGG16, got {path} ({got}); "
        f"give {FILES['alex']} or {FILES['vgg']}"
    )
