"""SIGKILL in the middle of a save: the last checkpoint and the best are whole, thirty times out of thirty."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.train.checkpoint.saving import steps

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_kill_during_saves(tmp_path):
    """The kills land where they hurt: half-written files were left, and the next save swept them."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.train.checkpoint.kill_saves", str(tmp_path), "30"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    print(seen)
    assert seen["kills"] == 30 and seen["saves"] > 0
    assert seen["temporaries"] + seen["orphans"] > 0
    assert seen["left"] == sorted(path.name for path in tmp_path.iterdir())
    assert len(steps(tmp_path)) in (2, 3)  # no leftovers, and the best beside the last two if it is older
