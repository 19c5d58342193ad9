"""The compiled extension, loaded when first needed: importing the package must work without it."""

from __future__ import annotations

import functools
import importlib
from types import ModuleType


@functools.cache
def load() -> ModuleType:
    """``nerf_metal._C``.

    Raises:
        ImportError: one line that says what is wrong and what to do.
    """
    try:
        return importlib.import_module("nerf_metal._C")
    except ImportError as error:
        raise ImportError(
            f"nerf_metal's compiled kernels must be importable, got: {error}; "
            "install the package with a C++ compiler at hand: pip install ."
        ) from error
