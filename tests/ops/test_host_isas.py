"""The kernels compiled for each instruction set, not only for the one that is chosen here."""

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
@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
def test_kernels_of_every_isa_are_the_references(isa: str) -> None:
    if isa not in kernels.available_host_isas():
        pytest.skip(f"this processor runs {', '.join(kernels.available_host_isas())}, not {isa}")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.ops.isa_check"],
        cwd=ROOT,
        env=os.environ | {"NERF_METAL_HOST_ISA": isa},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["isa"] == isa
    assert said["cases"] == sum(len(op.cases) for op in OPS)
    assert 0.0 < said["worst"] <= 1.0
