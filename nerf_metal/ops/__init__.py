"""Operations on tensors: the functions of :mod:`nerf_metal.reference` with checks, gradients and a choice of backend.

Each op checks its arguments, picks a backend and launches the kernels of the shader that has its name. The argument
``backend`` is ``"metal"`` (kernels on MPS tensors), ``"host"`` (the same kernels on CPU tensors), ``"torch"`` (the
reference, on any device and in any float dtype) or ``"auto"`` (the first of these that fits the tensors). Indices that
torch indexes with, of rays or of cells, are int64; ``packed_info`` and bits are int32.
"""

from nerf_metal.ops.adam import adam_step
from nerf_metal.ops.composite import composite_rays
from nerf_metal.ops.hashgrid import hashgrid_encode, hashgrid_entries, hashgrid_levels
from nerf_metal.ops.importance import sample_importance
from nerf_metal.ops.march import SPACINGS, intersect_rays, march_rays
from nerf_metal.ops.mlp import mlp
from nerf_metal.ops.occupancy import occupancy_cells, occupancy_pack, occupancy_update
from nerf_metal.ops.sh import spherical_harmonics
from nerf_metal.ops.traverse import MOST_SAMPLES_PER_RAY, traverse_grid
from nerf_metal.ops.visibility import visibility_copy, visibility_count, visibility_gather
from nerf_metal.reference import Composited, OccupancyCells, RayBounds, RaySampleList, RaySamples, TraversedRays
from nerf_metal.reference.traverse import pack_counts

__all__ = [
    "MOST_SAMPLES_PER_RAY",
    "SPACINGS",
    "Composited",
    "OccupancyCells",
    "RayBounds",
    "RaySampleList",
    "RaySamples",
    "TraversedRays",
    "adam_step",
    "composite_rays",
    "hashgrid_encode",
    "hashgrid_entries",
    "hashgrid_levels",
    "intersect_rays",
    "march_rays",
    "mlp",
    "occupancy_cells",
    "occupancy_pack",
    "occupancy_update",
    "pack_counts",
    "sample_importance",
    "spherical_harmonics",
    "traverse_grid",
    "visibility_copy",
    "visibility_count",
    "visibility_gather",
]
