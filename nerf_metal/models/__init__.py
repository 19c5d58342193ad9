"""Models: a model is a radiance field with its sampling of rays and its loss.

:class:`Model` is the base class of all models. The package has two:
:class:`nerf_metal.models.hash_grid.model.HashGridModel` and
:class:`nerf_metal.models.coarse_fine.model.CoarseFineModel`. The import of this package does not import torch. The
first use of one of its names does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nerf_metal.util.lazy import lazy_names

if TYPE_CHECKING:
    from nerf_metal.models.base import Model, Space, StepLoss
    from nerf_metal.models.options import option
    from nerf_metal.models.pixels import RenderedPixels
    from nerf_metal.models.registry import build_model, model_class

__all__ = ["Model", "RenderedPixels", "Space", "StepLoss", "build_model", "model_class", "option"]

_PLACES = {
    "Model": "base",
    "Space": "base",
    "StepLoss": "base",
    "RenderedPixels": "pixels",
    "build_model": "registry",
    "model_class": "registry",
    "option": "options",
}


if not TYPE_CHECKING:  # a type checker would take any name for one of the module's
    __getattr__ = lazy_names(__name__, _PLACES)
