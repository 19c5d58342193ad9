"""Versions of what training needs; imports nothing of it, since any may be missing."""

from __future__ import annotations

import importlib.metadata

PACKAGES = ("numpy", "imageio", "scikit-image", "tyro", "tqdm", "matplotlib", "jinja2", "safetensors")
"""That the package needs beside torch."""


def package_version(name: str) -> str | None:
    """Of an installed package, or None."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
