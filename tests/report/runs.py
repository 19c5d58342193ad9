"""Invented records of runs, line by line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nerf_metal.report.contents import Report, build_report
from nerf_metal.report.record import read_record
from nerf_metal.train.run_folder import MARK, RunFolder

OPTIONS = {
    **{"preset": "classic", "field": "frequency", "steps": 1000, "max_seconds": None, "steps_per_epoch": 100},
    **{"lr": 1e-4, "warmup_steps": 500, "clip_norm": 1.0, "hidden_width": 256, "background": "random"},
    **{"density_activation": "softplus", "batch_rays": 2048, "num_samples": 64, "num_importance": 128},
}
VERSIONS = {"nerf_metal": "0.1.0", "torch": "2.13.0"}
HEALTHY = (12.0, 15.0, 17.0, 18.5, 19.7, 20.7, 21.5, 22.2, 22.8, 23.3)
BLANK = (10.0, 10.3, 10.4, 10.4, 10.5, 10.4, 10.5, 10.5, 10.5, 10.5)
COLLAPSED = (12.0, 15.0, 17.0, 18.5, 19.7, 20.7, 9.0, 9.0, 9.1, 9.0)


def write_run(path: Path, lines: Iterable[Mapping[str, Any]], **options: Any) -> RunFolder:
    """Write a run of nerf_metal on a CPU with these lines in its record. ``options`` replace those of
    :data:`OPTIONS`."""
    path.mkdir(parents=True)
    about = {"kind": MARK, "scene": "a cube", "config": OPTIONS | options, "versions": VERSIONS, "device": "cpu"}
    (path / "config.json").write_text(json.dumps(about))
    folder = RunFolder(path)
    for line in lines:
        folder.append_metrics(**line)
    return folder


def lines_of(psnr: Iterable[float], health: bool = True, **train: Any) -> list[dict[str, Any]]:
    """Make an evaluation every 100 steps beside a blank picture of 10.5 dB, with training lines before it and a health
    line after it. ``train`` holds values of the training lines, or functions of the step."""
    lines: list[dict[str, Any]] = []
    for i, score in enumerate(psnr, 1):
        for step in range(100 * i - 80, 100 * i + 1, 20):
            values = {name: value(step) if callable(value) else value for name, value in train.items()}
            usual = {"loss": 0.01, "mse": 10 ** (-score / 10), "lr": 1e-4, "grad_norm": 0.02, "alpha": 0.3}
            usual |= {"empty_rays": 0.65, "opaque_rays": 0.25, "blank_mse": 0.1, "rays_per_second": 1e4}
            lines.append({"event": "train", **_at(step), **usual, **values})
        scores = {"psnr": score, "mse": 10 ** (-score / 10), "ssim": 0.5, "blank_psnr": 10.5}
        lines.append({"event": "eval", **_at(100 * i), "split": "test", "views": 4, **scores})
        if health:
            norms = {"grad_norm": 0.02, "weight_norm": 12.0, "update_ratio": 1e-3}
            lines.append({"event": "health", **_at(100 * i), "lr": 1e-4, "groups": {"fine.trunk": dict(norms)}})
    return lines


def watchdog(step: int, name: str, action: str = "stop", **values: Any) -> dict[str, Any]:
    """Make one line of the watchdog."""
    said = {"sentence": f"words about {name}", "evidence": {}, "policy": "rollback"}
    return {"event": "watchdog", **_at(step), "name": name, "action": action, **said, **values}


def report_of(path: Path, lines: Iterable[Mapping[str, Any]], **options: Any) -> Report:
    """Build the report of such a run, without its files."""
    return build_report(read_record(write_run(path, lines, **options)))


def _at(step: int) -> dict[str, Any]:
    return {"step": step, "epoch": step // 100, "train_seconds": step / 10}
