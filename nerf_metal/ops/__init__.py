"""The operations: the signatures of :mod:`nerf_metal.reference` plus ``backend``, checked, with gradients.

Each op checks its arguments, picks a backend and launches the kernels of the shader that bears its name.
"""

from nerf_metal.ops.composite import composite_rays
from nerf_metal.ops.importance import sample_importance
from nerf_metal.ops.march import SPACINGS, intersect_rays, march_rays
from nerf_metal.reference import Composited, RayBounds, RaySamples

__all__ = [
    "SPACINGS",
    "Composited",
    "RayBounds",
    "RaySamples",
    "composite_rays",
    "intersect_rays",
    "march_rays",
    "sample_importance",
]
