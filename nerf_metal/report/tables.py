"""Tables for a terminal: names with values, and columns under a head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nerf_metal.report.findings import best_eval
from nerf_metal.report.record import Record, Train
from nerf_metal.train.checkpoint import checkpoint_files
from nerf_metal.train.run_folder import RunFolder
from nerf_metal.util.text import clock

Rows = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Table:
    """Text in columns; all but the first ``words`` columns are numbers."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int = 1


def format_table(rows: Rows) -> str:
    """Rows of name and value, aligned."""
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"  {name:<{width}}  {value}" for name, value in rows)


def shorten(name: str, width: int) -> str:
    """A name of at most ``width`` characters: a longer one loses its middle, since file names differ at their ends."""
    if len(name) <= width:
        return name
    end = (width - 1) // 2
    return f"{name[: width - 1 - end]}…{name[len(name) - end :]}"


def final_rows(folder: RunFolder, record: Record) -> list[tuple[str, str]]:
    """Name and value of what matters at the end of a run, and where its files are."""
    rows = [*key_rows(record), ("run folder", str(folder.path))]
    rows += [("picture", path.name) for path in list(record.pictures.values())[-1:]]
    files = {"loss plot": folder.losses_plot, "summary": folder.summary, "report": folder.report}
    rows += [(name, path.name) for name, path in files.items() if path.exists()]
    weights = [path.with_suffix(".safetensors").name for path in checkpoint_files(folder.checkpoints)[-1:]]
    return rows + [("weights", f"checkpoints/{name}") for name in weights]


def key_rows(record: Record) -> list[tuple[str, str]]:
    """The numbers to look at first."""
    rows: list[tuple[str, str]] = []
    if record.evals:
        last, best = record.evals[-1], best_eval(record.evals)
        views = f" on {last.views} {last.split or 'test'} views" if last.views else ""
        at = clock(best.train_seconds) if best.train_seconds is not None else record.place(best)
        rows += [("PSNR", f"{last.psnr:.2f} dB{views}"), ("best PSNR", f"{best.psnr:.2f} dB at {at}")]
        if last.blank_psnr is not None:
            above = last.psnr - last.blank_psnr
            rows.append(("blank picture", f"{last.blank_psnr:.2f} dB ({above:+.2f} dB from it)"))
        rows += [("SSIM", f"{last.ssim:.3f}")] if last.ssim is not None else []
    lines = sorted([*record.train, *record.evals], key=lambda point: point.order)
    if lines and (end := lines[-1]).step is not None and end.train_seconds is not None:
        speed = _rays_per_second(record.train)
        pace = "" if speed is None else f" ({speed:,.0f} rays/s)"
        rows.append(("training", f"{end.step} steps in {clock(end.train_seconds)}{pace}"))
    return rows


def _rays_per_second(train: Sequence[Train]) -> float | None:
    """The mean over the time of training."""
    known = [point for point in train if point.train_seconds is not None and point.rays_per_second is not None]
    rays = before = 0.0
    for point in known:
        assert point.train_seconds is not None and point.rays_per_second is not None
        rays, before = rays + point.rays_per_second * (point.train_seconds - before), point.train_seconds
    return rays / before if before > 0 else None
