"""Train NeRFs with PyTorch on a Mac: Metal shaders for volume rendering, with references, a model and a trainer.

Importing this imports nothing heavy: the rooms below (``nerf_metal.ops``, ``nerf_metal.reference``, ...) load torch
when they are imported, and the compiled kernels when a kernel is first needed.
"""

from pkgutil import extend_path

# Run from a checkout, Python finds this folder before the installed package: the compiled kernels lie in the latter.
__path__ = extend_path(__path__, __name__)

__version__ = "0.1.0"
