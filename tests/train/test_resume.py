"""A run that was killed and resumed ends with the bits of one that was not, in processes of their own."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nerf_metal.train.checkpoint import checkpoint_files, find_checkpoint
from tests.cli.test_cli import TINY

ROOT = Path(__file__).parents[2]
STEPS, HALF = 200, 100
FAST = (
    *("--preset", "fast", "--downscale", "50", "--hidden-width", "16", "--levels", "4", "--log2-table-size", "10"),
    *("--finest-resolution", "64", "--grid-resolution", "16", "--march-steps", "32", "--batch-samples", "1024"),
    *("--eval-views", "2", "--device", "cpu"),
)
SECONDS = 120
"""A run takes about five; two cores may have other work."""


def start(*args: str) -> subprocess.Popen:
    """``python -m nerf_metal.train``, with an evaluation, and so a checkpoint, every few steps."""
    words = [*args, "--steps", str(STEPS), "--eval-every-seconds", "0.05", "--deterministic"]
    return subprocess.Popen(
        [sys.executable, "-m", "nerf_metal.train", *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen) -> None:
    """Wait for a run that must end well."""
    printed, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, printed


def newest_step(checkpoints: Path) -> int:
    """Of the checkpoints whose JSON is there, -1 without one."""
    return max((int(path.stem[5:13]) for path in checkpoint_files(checkpoints)), default=-1)


@pytest.mark.slow
@pytest.mark.parametrize("preset", [FAST, TINY], ids=["fast", "small"])
def test_killed_and_resumed_equals_unbroken(tmp_path, preset):
    """SIGKILL behind step 100, then on to 200: weights, box, grid and moments, byte for byte. The two evaluate at other
    steps, which must not matter."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finish(start(*preset, "--out", str(whole)))

    process = start(*preset, "--out", str(broken))
    limit = time.monotonic() + SECONDS
    while newest_step(broken / "checkpoints") < HALF and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    printed, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL, printed
    reached = find_checkpoint(broken / "checkpoints").step
    print(f"killed behind step {reached}")
    assert HALF <= reached < STEPS

    finish(start("--resume", str(broken)))
    for suffix in (".safetensors", ".optimizer.safetensors"):
        name = f"step_{STEPS:08d}{suffix}"
        assert (whole / "checkpoints" / name).read_bytes() == (broken / "checkpoints" / name).read_bytes(), name
