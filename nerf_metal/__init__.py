"""Train NeRFs with PyTorch on a Mac: Metal shaders for volume rendering, with references, a model and a trainer."""

__version__ = "0.1.0"
