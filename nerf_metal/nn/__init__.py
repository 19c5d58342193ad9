"""Modules and functions from which a researcher builds a NeRF of their own, on ``mps``, ``cuda`` and ``cpu``.

``examples/own_nerf.py`` is a whole training script made of them. A tensor on ``mps`` or ``cpu`` is worked on by the
hand-written kernels, on any other device by the pure torch references of the same functions.
"""

from nerf_metal.nn.encodings import FrequencyEncoding, HashEncoding, SphericalHarmonics
from nerf_metal.nn.fused_mlp import FusedMLP
from nerf_metal.nn.occupancy_grid import GridSamples, OccupancyGrid
from nerf_metal.nn.optimizers import FusedAdam
from nerf_metal.nn.rendering import Rendered, render, sample_positions

__all__ = [
    "FrequencyEncoding",
    "FusedAdam",
    "FusedMLP",
    "GridSamples",
    "HashEncoding",
    "OccupancyGrid",
    "Rendered",
    "SphericalHarmonics",
    "render",
    "sample_positions",
]
