"""The example of a NeRF of one's own runs as it stands."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from nerf_metal.kernels import backends

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(monkeypatch: pytest.MonkeyPatch, name: str, *arguments: str) -> dict[str, object]:
    """Run an example as a script with these arguments, and return its variables."""
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    return runpy.run_path(str(EXAMPLES / name), run_name="__main__")


@pytest.mark.parametrize("kernels", [True, False])
def test_own_nerf_learns(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kernels: bool) -> None:
    """A few steps beat the blank picture by far, with kernels and, as on a CUDA device, with the references alone."""
    if not kernels:
        monkeypatch.setattr(backends, "_BEST", {})
    steps = 40 if kernels else 10
    with backends.record_launches() as launches:
        found = run(monkeypatch, "own_nerf.py", str(steps))
    assert bool(launches.ran) == kernels and not launches.failed
    own, blank = found["own"], found["blank"]
    assert isinstance(own, float) and isinstance(blank, float) and own > blank + (4 if kernels else 1)
    assert f"{own:.2f} dB" in capsys.readouterr().out


def test_own_nerf_is_40_lines() -> None:
    lines = (EXAMPLES / "own_nerf.py").read_text(encoding="utf-8").splitlines()
    assert sum(1 for line in lines if line.strip() and not line.startswith('"""')) <= 40
