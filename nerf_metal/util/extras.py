"""Packages that a part of the program needs and that not everybody installs."""

from __future__ import annotations

import importlib
from typing import Any

from nerf_metal.util.errors import InputError


def require(module: str, *, extra: str, command: str) -> Any:
    """Import a module of an extra.

    Args:
        module: its name.
        extra: that brings it.
        command: what needs it, for the message.

    Raises:
        InputError: it is not installed; the message names the extra.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(
            f"[{command}] {module} must be installed, got {error}; pip install 'nerf-metal[{extra}]'"
        ) from None
