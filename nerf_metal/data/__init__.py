"""Scenes, their cameras and images, and random batches of training rays.

:func:`load_scene` reads a folder, :func:`make_embedded_scene` makes the built-in scene, and :func:`write_scene` writes
one. A :class:`Scene` has a :class:`Split` for training and one for testing; :class:`PixelBatches` and
:class:`RayBatches` draw training rays from a split.
"""

from nerf_metal.data.batches import PixelBatches, RayBatch, RayBatches, step_seed
from nerf_metal.data.cameras import Intrinsics
from nerf_metal.data.load import load_scene
from nerf_metal.data.readers.blender import load_blender
from nerf_metal.data.scene import Scene, Split
from nerf_metal.data.toy.scene import make_embedded_scene
from nerf_metal.data.write import write_scene

__all__ = [
    "Intrinsics",
    "PixelBatches",
    "RayBatch",
    "RayBatches",
    "Scene",
    "Split",
    "load_blender",
    "load_scene",
    "make_embedded_scene",
    "step_seed",
    "write_scene",
]
