"""The versions of the packages that training needs. They are not imported, since any of them may be missing."""

from __future__ import annotations

import importlib.metadata

PACKAGES = ("numpy", "imageio", "scikit-image", "tyro", "tqdm", "matplotlib", "jinja2", "safetensors")
"""The packages that nerf_metal needs beside torch."""


def package_version(name: str) -> str | None:
    """Return the version of an installed package, or None if it is missing."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
