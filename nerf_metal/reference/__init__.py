"""References in pure torch: the specification of every shader, on any device and in any float dtype.

The references import torch and each other, and nothing else of the package.
"""

from nerf_metal.reference.adam import adam_step
from nerf_metal.reference.composite import Composited, composite_rays
from nerf_metal.reference.hashgrid import hashgrid_encode, hashgrid_levels
from nerf_metal.reference.importance import sample_importance
from nerf_metal.reference.march import RayBounds, RaySamples, intersect_rays, march_rays
from nerf_metal.reference.mlp import mlp
from nerf_metal.reference.occupancy import (
    OccupancyCells,
    occupancy_cells,
    occupancy_pack,
    occupancy_update,
    pack_bits,
    unpack_bits,
)
from nerf_metal.reference.sh import spherical_harmonics
from nerf_metal.reference.traverse import TraversedRays, traverse_grid
from nerf_metal.reference.visibility import RaySampleList, visibility_copy, visibility_count, visibility_gather

__all__ = [
    "Composited",
    "OccupancyCells",
    "RayBounds",
    "RaySampleList",
    "RaySamples",
    "TraversedRays",
    "adam_step",
    "composite_rays",
    "hashgrid_encode",
    "hashgrid_levels",
    "intersect_rays",
    "march_rays",
    "mlp",
    "occupancy_cells",
    "occupancy_pack",
    "occupancy_update",
    "pack_bits",
    "sample_importance",
    "spherical_harmonics",
    "traverse_grid",
    "unpack_bits",
    "visibility_copy",
    "visibility_count",
    "visibility_gather",
]
