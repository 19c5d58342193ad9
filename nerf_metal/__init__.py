"""Train NeRFs with PyTorch on a Mac: Metal shaders for volume rendering, with references, models and a trainer.

What ``__all__`` names here, and what ``__all__`` names in those modules, is public. Everything else is private and may
change in any version:

- ``nerf_metal.nn``: modules to build a NeRF of your own; ``examples/own_nerf.py`` uses them.
- ``nerf_metal.ops``: the same operations as functions on tensors.
- ``nerf_metal.data``: scenes, cameras and batches of training rays.
- ``nerf_metal.models``: the fields that the command line trains.
- ``nerf_metal.train``: the training loop and what it asks of a model.

Importing ``nerf_metal`` loads neither torch nor the compiled kernels. A public module is loaded when it is first used,
so that ``import nerf_metal`` and then ``nerf_metal.nn.render`` works.
"""

from importlib import import_module
from pkgutil import extend_path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nerf_metal import data, models, nn, ops, train

# Run from a checkout, Python finds this folder before the installed package: the compiled kernels lie in the latter.
__path__ = extend_path(__path__, __name__)

__version__ = "0.1.0"
__all__ = ["__version__", "data", "models", "nn", "ops", "train"]


if not TYPE_CHECKING:  # a type checker would take any name for one of the module's

    def __getattr__(name: str) -> ModuleType:
        """Load a public module when it is first used (PEP 562)."""
        if name in __all__:
            return import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    """List what is there already, and the public modules that are not loaded yet."""
    return sorted({*globals(), *__all__})
