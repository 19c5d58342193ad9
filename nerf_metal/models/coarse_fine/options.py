"""The options of the coarse and fine networks. Nothing here imports torch, because ``--help`` must be fast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nerf_metal.models.options import CommonOptions
from nerf_metal.util.options import check_limits, option


@dataclass(frozen=True)
class FrequencyOptions:
    """The coarse and the fine network of the NeRF paper. These options count with --field frequency only."""

    depth: int = option(4, at_least=1, fixed=True)  # what two cores can train in minutes; the paper has 8
    """Number of layers before density and color."""
    skip: int = option(0, at_least=0, fixed=True)  # 4 layers learn without it
    """Number of layers after which the position enters the network again. 0: never."""
    # 2^6 periods over the box, about a pixel at 100 x 100: finer is noise
    position_bands: int = option(7, at_least=0, fixed=True, was="position_levels")
    """Number of frequency bands of the position encoding."""
    # enough for highlights, too few to learn another colour for each view
    direction_bands: int = option(2, at_least=0, fixed=True, was="direction_levels")
    """Number of frequency bands of the direction encoding."""
    # relu can become 0 everywhere
    density_activation: Literal["softplus", "relu", "trunc_exp"] = option("softplus", fixed=True)
    """Function that turns the output of the network into a density. softplus is softplus(x - 1)."""
    batch_rays: int = option(256, at_least=1)  # more steps are better than larger ones: 512 rays had 1.5 dB less
    """Number of rays of a step."""
    num_samples: int = option(16, at_least=1)  # half the samples of twice the rays: 0.7 dB more than 32 + 32
    """Number of coarse samples of a ray."""
    num_importance: int = option(24, at_least=1)  # the fine network also sees the coarse samples: 40 in all
    """Number of additional samples of a ray, placed where the coarse network found density."""
    precrop_steps: int = option(0, at_least=0)
    """Number of steps at the start that use only the middle of the pictures, half their width and height. Use it if a
    scene is mostly background, because the field may then learn the background alone."""


@dataclass(frozen=True)
class CoarseFineConfig(CommonOptions, FrequencyOptions):
    """All options of the coarse and fine model.

    Raises:
        InputError: a value is out of its range; the message names the option.
    """

    def __post_init__(self) -> None:
        """Check every value."""
        check_limits(self)
