"""LPIPS: the distance of two pictures in the features of an image classifier (Zhang et al. 2018).

It needs the extra ``lpips`` and a file of weights. Nothing is ever downloaded.
"""

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
"""File names of the weights of torchvision's ImageNet classifiers. Torch hub's cache holds such a file if any program
has loaded the network. The package ``lpips`` holds the few weights of the distance itself."""
FIRST_LAYERS: dict[tuple[int, ...], str] = {(64, 3, 11, 11): "alex", (64, 3, 3, 3): "vgg"}
"""Name of the network by the shape of the weights of its first layer."""
LEAST_SIDE = {"alex": 31, "vgg": 16}
"""Least side of a picture in pixels: it leaves one pixel at the deepest layer."""


class Lpips:
    """The LPIPS distance with one of its two networks, on the CPU.

    Attributes:
        net: ``alex``, which the authors of LPIPS use, or ``vgg``, which papers on radiance fields report. Their numbers
            cannot be compared with each other.
    """

    def __init__(self, choice: str) -> None:
        """Load the weights.

        Args:
            choice: ``alex`` or ``vgg`` for the file in torch hub's cache, or the path of such a file.

        Raises:
            InputError: the package or the file is missing, or the file belongs to another network.
        """
        path = Path(torch.hub.get_dir()) / "checkpoints" / FILES[choice] if choice in FILES else Path(choice)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # from torchvision, about the way lpips calls it
            package = _package()
            weights = _read(path)
            self.net = FIRST_LAYERS.get(tuple(weights["features.0.weight"].shape), "alex")
            # pnet_rand makes a network without weights. Otherwise torchvision would download the file.
            self._model: nn.Module = package.LPIPS(net=self.net, pnet_rand=True, verbose=False)
        _load(self._model.get_submodule("net"), weights, path)

    @torch.no_grad()
    def __call__(self, prediction: Tensor, truth: Tensor) -> float:
        """Return the distance of two pictures ``[H, W, 3]`` in [0, 1]. It is 0 for equal pictures.

        Raises:
            InputError: the pictures are too small for the network.
        """
        height, width, _ = truth.shape
        if min(height, width) < LEAST_SIDE[self.net]:
            raise InputError(
                f"[eval] --lpips {self.net} must have pictures of at least {LEAST_SIDE[self.net]} pixels along a side, "
                f"got {width} x {height}; leave out the option"
            )
        pictures = (picture.cpu().movedim(-1, 0)[None] for picture in (prediction, truth))
        return float(self._model(*pictures, normalize=True))


def _package() -> Any:
    try:
        return require("lpips", extra="lpips", command="eval --lpips")
    except RuntimeError as error:  # torchvision was built for another version of torch
        raise InputError(
            f"[eval --lpips] torchvision must be built for torch {torch.__version__}, got {error}; "
            "pip install -U torchvision"
        ) from None


def _read(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by name."""
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
        if isinstance(weights, dict) and isinstance(weights.get("features.0.weight"), Tensor):
            return weights
        got = "another file"
    except FileNotFoundError:
        raise InputError(
            f"[eval] --lpips must find the weights of torchvision's network, got no file {path}; "
            "nothing is downloaded: copy the file to that place, or give its path with --lpips FILE.pth"
        ) from None
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        got = str(error).split("\n")[0][:80]
    raise _wrong(path, got)


def _load(net: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Fill a network of lpips. Its ``slice2.3.weight``, for example, is torchvision's ``features.3.weight``."""
    for name, parameter in net.named_parameters():
        source = weights.get(f"features.{name.split('.', 1)[1]}")
        if not isinstance(source, Tensor) or source.shape != parameter.shape:
            raise _wrong(path, f"a file whose {name} differs")
        parameter.data.copy_(source)


def _wrong(path: Path, got: str) -> InputError:
    return InputError(
        f"[eval] --lpips must be the weights of torchvision's AlexNet or VGG16, got {path} ({got}); "
        f"give {FILES['alex']} or {FILES['vgg']}"
    )
