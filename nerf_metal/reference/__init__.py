"""Pure-torch references: the specification of every shader, on any device, in any float dtype.

They import torch and each other, nothing else of the package.
"""

from nerf_metal.reference.composite import Composited, composite_rays
from nerf_metal.reference.importance import sample_importance
from nerf_metal.reference.march import RayBounds, RaySamples, intersect_rays, march_rays

__all__ = [
    "Composited",
    "RayBounds",
    "RaySamples",
    "composite_rays",
    "intersect_rays",
    "march_rays",
    "sample_importance",
]
