"""The kernels compiled for each processor level, not only for the one that is chosen here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nerf_metal import kernels
from nerf_metal.selftest.table import OPS

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.host_kernels
@pytest.mark.parametrize("level", ["baseline", "avx2", "avx512"])
def test_kernels_of_every_level_are_the_references(level: str) -> None:
    if level not in kernels.available_host_levels():
        pytest.skip(f"this processor runs {', '.join(kernels.available_host_levels())}, not {level}")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.ops.level_check"],
        cwd=ROOT,
        env=os.environ | {"NERF_METAL_HOST_LEVEL": level},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["level"] == level
    assert said["cases"] == sum(len(op.cases) for op in OPS)
    assert 0.0 < said["worst"] <= 1.0
