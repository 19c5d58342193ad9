"""The options of the hash grid. Nothing here imports torch, because ``--help`` must be fast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nerf_metal.models.options import CommonOptions
from nerf_metal.util.options import check_limits, option, reject

MOST_WIDTH = 128
"""Largest width of a layer of the fused networks, whose tiles are held in registers."""


@dataclass(frozen=True)
class HashGridOptions:
    """The hash grid. These options count with --field hashgrid only."""

    # 8 levels of 4 features are 64 reads a sample, 16 of 2 are 128 for no better picture
    levels: int = option(8, at_least=1, fixed=True)
    """Number of resolutions of the hash grid."""
    level_features: Literal[1, 2, 4, 8] = option(4, fixed=True)
    """Number of features of an entry of the hash grid."""
    log2_table_size: int = option(18, at_least=4, at_most=24, fixed=True)  # a level begins on a new cache line
    """Largest number of entries of a level, as a power of two."""
    base_resolution: int = option(16, at_least=1, fixed=True)  # instant-ngp's
    """Number of cells of the coarsest level along an axis of the box."""
    finest_resolution: int = option(1024, at_most=2**20, fixed=True)  # a pixel of an 800 x 800 picture
    """Number of cells of the finest level along an axis of the box."""
    grid_resolution: int = option(128, at_least=8, at_most=256, cure="128 is usual", fixed=True)  # instant-ngp's
    """Number of cells of the occupancy grid along an axis of the box: a multiple of 4."""
    march_steps: int = option(700, at_least=1)  # a sample is shorter than a cell of the occupancy grid
    """Largest number of samples along the diagonal of the box."""
    first_step: float = option(4.0, at_least=1)
    """Factor on the length of a sample at the start of the training. Longer samples allow
    more rays for the same work."""
    batch_samples: int = option(65536, at_least=1)  # fits the caches of two cores, and fills a GPU
    """Number of samples of a step. The number of rays follows from it."""
    loss: Literal["huber", "mse"] = option("huber")
    """Loss of the colors. The frequency field always uses the mean squared error of both networks."""


@dataclass(frozen=True)
class HashGridConfig(CommonOptions, HashGridOptions):
    """All options of the hash-grid model.

    Raises:
        InputError: a value is out of its range; the message names the option.
    """

    def __post_init__(self) -> None:
        """Check every value and their combinations."""
        check_limits(self)
        if self.hidden_width > MOST_WIDTH:
            reject("hidden_width", f"be at most {MOST_WIDTH} with a hash grid", self.hidden_width, "lower it")
        if self.finest_resolution < self.base_resolution:
            cure = "raise it, or lower --base-resolution"
            reject("finest_resolution", f"be at least {self.base_resolution}", self.finest_resolution, cure)
        if self.levels * self.level_features > MOST_WIDTH:
            cure = f"lower one of them: the fused network takes at most {MOST_WIDTH}"
            reject("levels", f"give at most {MOST_WIDTH} numbers with --level-features", self.levels, cure)
        if self.grid_resolution % 4:
            reject("grid_resolution", "be a multiple of 4 from 8 to 256", self.grid_resolution, "128 is usual")
