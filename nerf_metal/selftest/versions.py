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


def private_arguments(torch_version: str) -> str | None:
    """What is to be said of the metal backend with this torch: None from 2.14 on, which has a public function for all
    arguments of a kernel."""
    if tuple(int(part) for part in torch_version.split(".")[:2]) >= (2, 14):
        return None
    return (
        "with torch before 2.14 kernel arguments above 8 bytes go through a private\n"
        "C++ symbol of torch, MetalKernelFunction::setArg;\n"
        "torch >= 2.14 is recommended on a Mac"
    )
