"""Scenes to train on: loaders, the embedded scene, and what both give."""

from nerf_metal.data.batches import PixelBatches, RayBatch
from nerf_metal.data.load import load_scene
from nerf_metal.data.readers.blender import load_blender
from nerf_metal.data.scene import Scene, Split
from nerf_metal.data.toy.scene import make_embedded_scene
from nerf_metal.data.write import write_scene

__all__ = [
    "PixelBatches",
    "RayBatch",
    "Scene",
    "Split",
    "load_blender",
    "load_scene",
    "make_embedded_scene",
    "write_scene",
]
