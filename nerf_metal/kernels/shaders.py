"""Shader text for Metal: embedded at build time, or read from a folder while one edits."""

from __future__ import annotations

import os
from pathlib import Path

from nerf_metal.kernels import extension, signature

# Set to a checkout's metal/ folder: shaders are then read from there, and an edit needs no reinstall on Metal.
SHADER_DIR_VARIABLE = "NERF_METAL_SHADER_DIR"


def sources() -> dict[str, str]:
    """File name to text.

    Raises:
        ValueError: where the variable names no folder with shaders.
    """
    folder = os.environ.get(SHADER_DIR_VARIABLE)
    if not folder:
        return extension.load().shader_sources()
    path = Path(folder)
    found = signature.read_sources(path) if path.is_dir() else {}
    if not any(name.endswith(".metal") for name in found):
        raise ValueError(
            f"[{SHADER_DIR_VARIABLE}] must name a folder with .metal files, got {folder!r}; "
            "unset it to use the embedded shaders"
        )
    return found


def embedded_kernels() -> dict[str, str]:
    """Kernels of the embedded shaders, each with its library; not those that a test loads beside them."""
    return {kernel: entry[0] for kernel, entry in extension.load().kernel_table(loaded=False).items()}


def library_source(library: str) -> str:
    """One shader library as the single string Metal compiles.

    Raises:
        ValueError: where an edited kernel no longer takes what the extension was built to pass.
    """
    texts = sources()
    text = signature.inline_includes(f"{library}.metal", texts)
    if os.environ.get(SHADER_DIR_VARIABLE):
        _check_signatures(library, texts)
    return text


def _check_signatures(library: str, texts: dict[str, str]) -> None:
    """An edited shader must keep the parameters that the launcher was built to pass."""
    built = extension.load().kernel_table()
    structs = signature.parse_structs(texts["params.h"])
    for kernel in signature.parse_kernels(library, texts[f"{library}.metal"]):
        now = tuple((b.name, b.dtype, b.writable) for b in kernel.buffers)
        same_struct = structs.get(kernel.params) == extension.load().struct_table().get(kernel.params)
        if kernel.name not in built or built[kernel.name][1:3] != (now, kernel.params) or not same_struct:
            raise ValueError(
                f"[{kernel.name}] parameters must be those the extension was built with, got others in the edited "
                "shader; reinstall once with: pip install -e ."
            )
