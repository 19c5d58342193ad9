"""Optional packages, which an extra of the distribution installs."""

from __future__ import annotations

import importlib
from typing import Any

from nerf_metal.util.errors import InputError


def require(module: str, *, extra: str, command: str) -> Any:
    """Import a module of an optional package.

    Args:
        module: name of the module.
        extra: name of the extra that installs it.
        command: name of the command that needs it, for the message.

    Raises:
        InputError: the module is not installed; the message names the extra.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(
            f"[{command}] {module} must be installed, got {error}; pip install 'nerf-metal[{extra}]'"
        ) from None
