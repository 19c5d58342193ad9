"""The options that all models of the package share. Nothing here imports torch, because ``--help`` must be fast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nerf_metal.util.limits import MOST_CASCADES
from nerf_metal.util.options import option

Backend = Literal["auto", "metal", "host", "torch"]


@dataclass(frozen=True)
class CommonOptions:
    """The options that all models of the package share."""

    # 64 is the largest width whose activations stay in registers and near caches; 2 dB more than 32
    hidden_width: int = option(64, at_least=2, fixed=True)  # the colour layer has half as many
    """Number of units in a hidden layer. A hash grid takes at most 128."""
    # on Lego a quarter of the rays miss the box, and the others cross less than half the length
    tight_box: bool = option(True, fixed=True)
    """Sample only inside the box around the object. The box comes from the alpha of the images (the visual hull). The
    hash grid samples only inside the hull itself."""
    cascades: int | None = option(None, at_least=1, at_most=MOST_CASCADES, cure="5 reach 16 times as far", fixed=True)
    """Number of nested boxes around the scene. Each box is twice as large as the one before. 1 ends at the first box.
    None: as many as the capture needs."""
    appearance: Literal["none", "exposure"] = option("none", fixed=True)
    """exposure: learn a gain for each color channel of each training image. Use it when exposure or white balance
    changed between the images."""
    refine_poses: bool = option(False, fixed=True)
    """Learn a small rotation and translation of each training camera. Use it when the poses are not exact."""
    pose_lr: float = option(1e-3, above=0)  # that of nerfstudio: a tenth of a degree in the first steps
    """Initial learning rate of the poses. It follows --lr-decay."""
    backend: Backend = option("auto")
    """Implementation of the kernels. auto: the fastest that runs here. nerf-metal doctor shows which ones do."""
    deterministic: bool = option(False)
    """Make runs with equal seeds equal to the last bit on a GPU too. This makes sums slower. Runs on a CPU are always
    equal."""
