"""``nerf-metal doctor``: what this machine can do, and what to do about the rest."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass

import tyro

PACKAGES = ("numpy", "imageio", "scikit-image", "tyro", "tqdm", "matplotlib", "safetensors")
BACKENDS = {"metal": "MPS tensors", "host": "CPU tensors", "torch": "any tensors"}


@dataclass(frozen=True)
class DoctorOptions:
    """Say what this machine can do: Python, torch, devices, and each backend or why not and what to do."""


def run(args: Sequence[str]) -> int:
    """Print the findings; returns 0, also where something is missing: nothing here is an error."""
    tyro.cli(DoctorOptions, prog="nerf-metal doctor", args=list(args))
    import torch

    import nerf_metal
    from nerf_metal.report import format_table

    mac = platform.mac_ver()[0]
    rows = [
        ("nerf_metal", nerf_metal.__version__),
        ("Python", f"{platform.python_version()} ({platform.python_implementation()})"),
        ("system", f"macOS {mac}" if mac else platform.platform()),
        (
            "machine",
            f"{platform.machine()}, {os.cpu_count()} logical cores, torch uses {torch.get_num_threads()}",
        ),
        ("torch", torch.__version__),
        *_devices(),
        *_backends(),
        *((f"package {name}", _version(name)) for name in PACKAGES),
    ]
    print(format_table(rows))
    return 0


def _devices() -> list[tuple[str, str]]:
    import torch

    rows = [("device cpu", "usable")]
    if torch.backends.mps.is_available():
        rows.append(("device mps", "usable"))
        if tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 14):
            rows.append(
                (
                    "",
                    "torch before 2.14 computes wrong Linear gradients over 32 767 rows on M1 and M2\n"
                    "(pytorch #177116); nerf_metal never makes such a call, your own code might",
                )
            )
    elif torch.backends.mps.is_built():
        rows.append(("device mps", "not usable: torch finds no Apple GPU; needs macOS 14 or later, natively"))
    else:
        rows.append(("device mps", "not usable: this torch is built without it, as every torch but macOS's"))
    if torch.cuda.is_available():
        rows.append(("device cuda", f"usable, torch backend only: {torch.cuda.get_device_name()}"))
    else:
        rows.append(("device cuda", "not usable: no NVIDIA GPU, or a torch built without CUDA"))
    return rows


def _backends() -> list[tuple[str, str]]:
    try:
        kernels = importlib.import_module("nerf_metal.kernels")
        why_not, level, levels = kernels.why_not, kernels.host_level, kernels.available_host_levels
    except (ImportError, AttributeError) as error:
        broken = f"not usable: the compiled part does not load ({error}); install again with pip install ."
        return [("backend metal", broken), ("backend host", broken), ("backend torch", "usable")]
    rows = []
    for name, what in BACKENDS.items():
        reason = why_not(name)
        rows.append((f"backend {name}", f"usable, for {what}" if reason is None else f"not usable: {reason}"))
    if why_not("host") is None:
        rows.append(("host kernels", f"{level()} (of {', '.join(levels())})"))
    return rows


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return f"missing: pip install {package}"
