"""``nerf-metal eval``: measure the quality of a run on its test views."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nerf_metal.cli.arguments import read_options
from nerf_metal.cli.opened import RunOptions, open_run, unwritable

if TYPE_CHECKING:
    from nerf_metal.train.evaluation import Evaluation, ViewScore

RANKS = ("best", "2nd best", "2nd worst", "worst")
LONGEST_NAME = 30
"""Most characters of a view's name, so that a line with all columns has 80."""


@dataclass(frozen=True)
class EvalOptions(RunOptions):
    """Render the test views of a run and compare them with the photographs.

    Files in the run folder:
    - evaluation.json, evaluation.csv: the scores of every view
    - evaluation.png: how the best and the worst views differ from the photographs
    """

    views: int | None = None
    """Number of test views, evenly spaced. None takes all."""
    lpips: str | None = None
    """Also measure LPIPS with the network alex or vgg, or with a file of its weights. Needs
    pip install 'nerf-metal[lpips]'. The weights must be in the cache of torch hub, since nothing is downloaded."""


def run(args: Sequence[str]) -> int:
    """Run the command and return 0."""
    options = read_options(EvalOptions, "eval", args)
    folder, checkpoint, model, device, split, views = open_run("eval", options, "test", options.views)

    from tqdm import tqdm

    from nerf_metal.report.comparison import save_comparison
    from nerf_metal.train.evaluation import best_and_worst, evaluate
    from nerf_metal.train.perceptual import Lpips
    from nerf_metal.util.atomic import write_atomically, write_json

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
    assert result is not None  # there was no request to stop
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
        write_json(text, about)
        write_atomically(table, lambda to: _write_csv(to, ["name", *names], rows))
        save_comparison(picture, [(rank, view) for view, rank in ranks.items()])
    except OSError as error:
        raise unwritable("eval", error) from None
    print(_table(result, ranks))
    print(f"\n{result.line()}")
    print(f"files: {text}, {table.name}, {picture.name}")
    return 0


def _ranks(shown: list[ViewScore]) -> dict[ViewScore, str]:
    """Name the ranks of the best and the worst views. Fewer than four views have fewer ranks."""
    best = (len(shown) + 1) // 2
    names = RANKS[:best] + RANKS[len(RANKS) - len(shown) + best :]
    return dict(zip(shown, names, strict=True))


def _write_csv(path: Path, names: list[str], rows: Sequence[dict[str, object]]) -> None:
    """Write one line for each view, as spreadsheets read them."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _table(result: Evaluation, ranks: dict[ViewScore, str]) -> str:
    """Format the scores of every view and their means."""
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
