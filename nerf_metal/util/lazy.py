"""Public names that are loaded when they are first used (PEP 562): ``--help`` must come at once, and torch is slow."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def lazy_names(package: str, places: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a package.

    Args:
        package: its ``__name__``.
        places: the module below the package that has a name, by name.
    """

    def load(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}; it has {', '.join(places)}")
        return getattr(importlib.import_module(f"{package}.{places[name]}"), name)

    return load
