"""Placeholder until the kernels land: same signatures as the references plus ``backend``."""

from nerf_metal import reference as _reference
from nerf_metal.reference import Composited, RayBounds, RaySamples


def intersect_rays(*args, backend="auto", **kwargs):
    return _reference.intersect_rays(*args, **kwargs)


def march_rays(*args, backend="auto", **kwargs):
    return _reference.march_rays(*args, **kwargs)


def sample_importance(*args, backend="auto", **kwargs):
    return _reference.sample_importance(*args, **kwargs)


def composite_rays(*args, backend="auto", **kwargs):
    return _reference.composite_rays(*args, **kwargs)
