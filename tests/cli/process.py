"""The command line in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

PYTHON = (sys.executable, "-m", "nerf_metal")
TINY = (
    *("--preset", "small", "--downscale", "50", "--hidden-width", "8", "--depth", "2", "--batch-rays", "32"),
    *("--num-samples", "4", "--num-importance", "4", "--eval-views", "2", "--device", "cpu"),
)
"""Options of a run that takes about a second."""


def command(*args: str, **options: Any) -> subprocess.CompletedProcess:
    """Run ``python -m nerf_metal`` and return what it printed."""
    return subprocess.run([*PYTHON, *args], capture_output=True, text=True, env=environment(), **options)


def environment() -> dict[str, str]:
    """The environment in which a process finds this checkout, and a terminal of 80 columns."""
    root = str(Path(__file__).parents[2])
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]),
        "COLUMNS": "80",
    }
