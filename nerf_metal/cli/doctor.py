"""``nerf-metal doctor``: check what this machine can run, and say how to add the rest."""

from __future__ import annotations

import importlib
import os
import platform
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nerf_metal.cli.arguments import read_options
from nerf_metal.util.errors import InputError

BACKENDS = {"metal": "MPS tensors", "host": "CPU tensors", "torch": "any tensors"}


@dataclass(frozen=True)
class DoctorOptions:
    """Print the versions of Python and torch, the devices, and the backends.

    Each backend that cannot be used is printed with the reason and a cure.
    """

    full: bool = False
    """Compile every shader, compare every kernel with its reference, and test what torch computes. This takes 12 s on
    two cores with Linux; it was not measured on a Mac. The exit code is 1 if anything fails."""
    report: str | None = None
    """File for the report of --full as JSON, to attach to an issue. None means nerf_metal_doctor.json in the current
    folder."""
    backend: Literal["auto", "metal", "host"] = "auto"
    """Backend whose kernels --full tests. auto uses metal if it is available, else host."""


def run(args: Sequence[str]) -> int:
    """Run the command.

    Returns:
        0, even if a device or a package is missing; with ``--full`` 1 if a check failed.
    """
    options = read_options(DoctorOptions, "doctor", args)
    for name, given in (("report", options.report is not None), ("backend", options.backend != "auto")):
        if given and not options.full:
            raise InputError(f"[doctor] --{name} must come with --full, got it alone; add --full")
    if options.full:
        return _run_full(options)
    import torch

    import nerf_metal
    from nerf_metal.report import format_table
    from nerf_metal.selftest.versions import PACKAGES, package_version

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
        *((f"package {name}", package_version(name) or f"missing: pip install {name}") for name in PACKAGES),
    ]
    print(format_table(rows))
    return 0


def _run_full(options: DoctorOptions) -> int:
    from nerf_metal.selftest.report import check_report_path, software
    from nerf_metal.selftest.runner import run_self_test
    from nerf_metal.util.machine import machine

    path = Path(options.report or "nerf_metal_doctor.json")
    check_report_path(path)
    why_not = importlib.import_module("nerf_metal.kernels").why_not
    backend, no_metal = options.backend, None
    if backend == "auto":
        no_metal = why_not("metal")
        backend = "metal" if no_metal is None else "host"
    reason = why_not(backend)
    if reason is not None:
        raise InputError(f"[doctor] --backend must be usable here, got {backend}: {reason}")

    about, versions = machine(), software(backend)
    print(f"  {about['chip']}, {about['memory_gib']} GiB, {about['system']}")
    print(f"  nerf_metal {versions['nerf_metal']}, torch {versions['torch']}, Python {versions['python']}")
    kind = f"host ({versions['host_isa']})" if backend == "host" else backend
    print(f"  backend {kind}; errors are against float64 on the CPU", flush=True)
    if versions["metal_arguments"] is not None:
        print(textwrap.indent(versions["metal_arguments"], "  "), flush=True)
    found = run_self_test(
        backend,
        path,
        lambda text: print(text, end="", flush=True),
        no_metal=no_metal if sys.platform == "darwin" else None,  # only a Mac is expected to have it
    )
    if found.failed:
        print(f"{found.failed} failed; attach {path} to an issue", flush=True)
        return 1
    print(f"nothing failed; the report is {path}", flush=True)
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
                    "on M1 and M2, torch computes wrong gradients of Linear layers with 32 767 rows or more;\n"
                    "2.14 corrects most of them (pytorch #177116, #195163); nerf_metal makes no such call",
                )
            )
    elif torch.backends.mps.is_built():
        rows.append(("device mps", "not usable: torch finds no Apple GPU; it needs macOS 14 and native Python"))
    else:
        rows.append(("device mps", "not usable: only torch for macOS is built with it"))
    if torch.cuda.is_available():
        rows.append(("device cuda", f"usable, torch backend only: {torch.cuda.get_device_name()}"))
    else:
        rows.append(("device cuda", "not usable: there is no NVIDIA GPU, or torch is built without CUDA"))
    return rows


def _backends() -> list[tuple[str, str]]:
    import torch

    from nerf_metal.selftest.versions import private_arguments

    try:
        kernels = importlib.import_module("nerf_metal.kernels")
        why_not, isa, isas = kernels.why_not, kernels.host_isa, kernels.available_host_isas
    except (ImportError, AttributeError) as error:
        broken = f"not usable: the compiled part does not load ({error}); install again with pip install ."
        return [("backend metal", broken), ("backend host", broken), ("backend torch", "usable")]
    rows = []
    for name, what in BACKENDS.items():
        reason = why_not(name)
        rows.append((f"backend {name}", f"usable, for {what}" if reason is None else f"not usable: {reason}"))
        note = private_arguments(torch.__version__) if name == "metal" else None
        if note is not None:
            rows.append(("", note))
    if why_not("host") is None:
        rows.append(("host kernels", f"{isa()} (of {', '.join(isas())})"))
    return rows
