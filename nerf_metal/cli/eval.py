"""``nerf-metal eval``: measure a run on its test views."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from nerf_metal.cli.opened import open_run
from nerf_metal.train.options import Backend
from nerf_metal.util.errors import InputError

if TYPE_CHECKING:
    from nerf_metal.train.evaluation import Evaluation, ViewScore

RANKS = ("best", "2nd best", "2nd worst", "worst")
LONGEST_NAME = 30
"""Characters of a view's name: with all columns a line is 80 long."""


@dataclass(frozen=True)
class EvalOptions:
    """Render test views with a run's checkpoint and measure them; writes evaluation.json, evaluation.csv and, of the
    best and the worst views, a picture of what differs, evaluation.png."""

    run: Annotated[str, tyro.conf.Positional]
    """Run folder, as nerf-metal train made it."""
    views: int | None = None
    """Test views, evenly spaced. None: all."""
    lpips: str | None = None
    """Measure LPIPS too (pip install 'nerf-metal[lpips]'): by the network alex or vgg, whose weights torch hub's cache
    has, or by the file of such weights. Nothing is downloaded."""
    checkpoint: Literal["last", "best"] = "last"
    """Whose weights: the last whole checkpoint, or the one with the greatest PSNR."""
    device: Literal["auto", "cpu", "mps", "cuda"] = "auto"
    """Where to render. auto: mps, else cuda, else cpu."""
    backend: Backend = "auto"
    """Who computes what has a kernel."""


def run(args: Sequence[str]) -> int:
    """Evaluate as ``args`` say; returns 0."""
    options = tyro.cli(EvalOptions, prog="nerf-metal eval", args=list(args))
    folder, checkpoint, model, device, split, views = open_run(
        "eval", options.run, "test", options.views, options.device, options.backend, options.checkpoint
    )

    from tqdm import tqdm

    from nerf_metal.report.comparison import save_comparison
    from nerf_metal.train.evaluation import best_and_worst, evaluate
    from nerf_metal.train.perceptual import Lpips
    from nerf_metal.util.atomic import write_atomically

    lpips = None if options.lpips is None else Lpips(options.lpips)
    config = checkpoint.config
    result = evaluate(
        model.render,
        split,
        tqdm(views, desc="views", leave=False, disable=None),
        background=config.background,
        device=device,
        keep=best_and_worst,
        lpips=lpips,
    )
    assert result is not None  # nobody asked it to stop
    names = ("mse", "psnr", "ssim", "blank_psnr", *(("lpips",) if lpips else ()))
    rows = [{"name": view.name, **{name: getattr(view, name) for name in names}} for view in result.views]
    about = {
        "event": "eval",
        "step": checkpoint.step,
        "epoch": checkpoint.step // config.steps_per_epoch,
        "train_seconds": checkpoint.train_seconds,
        "split": split.name,
        "views": len(result.views),
        **{name: getattr(result, name) for name in names},
        **({"lpips_net": lpips.net} if lpips else {}),
        "per_view": rows,
    }
    ranks = _ranks(best_and_worst(result.views))
    text, table, picture = (folder.path / f"evaluation.{suffix}" for suffix in ("json", "csv", "png"))
    try:
        write_atomically(text, lambda to: to.write_text(json.dumps(about, indent=1, allow_nan=False) + "\n"))
        write_atomically(table, lambda to: _write_csv(to, ["name", *names], rows))
        save_comparison(picture, [(rank, view) for view, rank in ranks.items()])
    except OSError as error:
        raise InputError(
            f"[eval] the run folder must be writable, got {error.strerror} ({error.filename}); make it so"
        ) from None
    print(_table(result, ranks))
    print(f"\n{result.line()}")
    print(f"files: {text}, {table.name}, {picture.name}")
    return 0


def _ranks(shown: list[ViewScore]) -> dict[ViewScore, str]:
    """What each of the best and the worst views is; of few views there are fewer."""
    best = (len(shown) + 1) // 2
    names = RANKS[:best] + RANKS[len(RANKS) - len(shown) + best :]
    return dict(zip(shown, names, strict=True))


def _write_csv(path: Path, names: list[str], rows: Sequence[dict[str, object]]) -> None:
    """A line for each view, as spreadsheets read them."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _table(result: Evaluation, ranks: dict[ViewScore, str]) -> str:
    """The scores of every view, and their means."""
    from nerf_metal.report.markdown import table_lines
    from nerf_metal.report.tables import Table, shorten

    def cells(name: str, view: ViewScore | Evaluation, rank: str) -> tuple[str, ...]:
        lpips = () if view.lpips is None else (f"{view.lpips:.3f}",)
        scores = (f"{view.psnr:.2f}", f"{view.blank_psnr:.2f}", f"{view.ssim:.3f}", *lpips)
        return (shorten(name, LONGEST_NAME), *scores, rank)

    head = ("view", "PSNR dB", "blank", "SSIM", *(() if result.lpips is None else ("LPIPS",)), "")
    rows = [cells(view.name, view, ranks.get(view, "")) for view in result.views]
    rows.append(cells(f"mean of {len(result.views)}", result, ""))
    return "\n".join(table_lines(Table(head, tuple(rows))))
