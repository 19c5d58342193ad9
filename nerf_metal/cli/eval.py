"""``nerf-metal eval``: measure a run on its test views."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from nerf_metal.cli.opened import open_run
from nerf_metal.config import Backend


@dataclass(frozen=True)
class EvalOptions:
    """Render test views with a run's checkpoint and measure them; writes evaluation.json and a
    picture."""

    run: Annotated[str, tyro.conf.Positional]
    """Run folder, as nerf-metal train made it."""
    views: int | None = None
    """Test views, evenly spaced. None: all."""
    checkpoint: Literal["last", "best"] = "last"
    """Whose weights: the last whole checkpoint, or the one with the greatest PSNR."""
    device: Literal["auto", "cpu", "mps", "cuda"] = "auto"
    """Where to render. auto: mps, else cuda, else cpu."""
    backend: Backend = "auto"
    """Who computes what has a kernel."""


def run(args: Sequence[str]) -> int:
    """Evaluate as ``args`` say; returns 0."""
    options = tyro.cli(EvalOptions, prog="nerf-metal eval", args=list(args))
    folder, checkpoint, method, device, split, views = open_run(
        "eval", options.run, "test", options.views, options.device, options.backend, options.checkpoint
    )

    from nerf_metal.checkpoint import write_atomically
    from nerf_metal.evaluate import evaluate
    from nerf_metal.report import format_table
    from nerf_metal.trainer import PICTURE_VIEWS

    config = checkpoint.config
    result = evaluate(method.render, split, views, background=config.background, device=device)
    assert result is not None  # nobody asked it to stop
    numbers = {name: getattr(result, name) for name in ("mse", "psnr", "ssim", "blank_psnr")}
    about = {
        "event": "eval",
        "step": checkpoint.step,
        "epoch": checkpoint.step // config.steps_per_epoch,
        "train_seconds": checkpoint.train_seconds,
        "split": split.name,
        "views": len(result.views),
        **numbers,
        "per_view": [{"name": view.name, **{name: getattr(view, name) for name in numbers}} for view in result.views],
    }
    path = folder.path / "evaluation.json"
    write_atomically(path, lambda to: to.write_text(json.dumps(about, indent=1, allow_nan=False) + "\n"))
    picture = folder.save_picture(
        "evaluation.png", [(view.prediction, view.truth) for view in result.views[:PICTURE_VIEWS]]
    )
    rows = [(view.name, f"PSNR {view.psnr:6.2f} dB  SSIM {view.ssim:.3f}") for view in result.views]
    rows.append((f"mean of {len(result.views)}", f"PSNR {result.psnr:6.2f} dB  SSIM {result.ssim:.3f}"))
    rows.append(("blank picture", f"PSNR {result.blank_psnr:6.2f} dB"))
    rows.append(("files", f"{path}, {picture.name}"))
    print(format_table(rows))
    return 0
