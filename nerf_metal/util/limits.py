"""Limits of the shaders that options and data need before torch is loaded."""

MOST_CASCADES = 8
"""The largest number of cascades of an occupancy grid: ``TRAVERSE_LEVELS`` in ``metal/traverse_ray.h``. The box of the
eighth cascade is 128 times as large as the scene's box."""
