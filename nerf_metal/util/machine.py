"""A description of this machine for reports, run folders and tables of measurements."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch


def machine() -> dict[str, Any]:
    """Describe chip, system, memory and torch's threads. The description holds nothing personal."""
    mac = platform.mac_ver()[0]
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        memory = 0
    return {
        "chip": processor(),
        "model": _sysctl("hw.model") if sys.platform == "darwin" else None,
        "system": f"macOS {mac}" if mac else f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "logical_cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(memory / 2**30, 1),
    }


def processor() -> str | None:
    """Return the processor's name as the system reports it; None if it does not."""
    if sys.platform == "darwin":
        return _sysctl("machdep.cpu.brand_string")
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), None)


def _sysctl(name: str) -> str | None:
    try:
        done = subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
