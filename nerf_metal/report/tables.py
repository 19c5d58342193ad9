"""Tables for a terminal: rows of a name and a value, and tables with columns and a head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nerf_metal.report.findings import best_eval
from nerf_metal.report.record import Record
from nerf_metal.train.checkpoint import checkpoint_files
from nerf_metal.train.run_folder import RunFolder
from nerf_metal.util.text import clock

Rows = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Table:
    """A table of text cells.

    Attributes:
        head: the name of each column.
        rows: the cells of each row.
        words: the first columns, this many, hold words. The others hold numbers and align right.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int = 1


def format_table(rows: Rows) -> str:
    """Return rows of a name and a value as lines with aligned values."""
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"  {name:<{width}}  {value}" for name, value in rows)


def shorten(name: str, width: int) -> str:
    """Shorten a name to at most ``width`` characters. A longer name loses its middle, since file names differ at their
    ends.
    """
    if len(name) <= width:
        return name
    end = (width - 1) // 2
    return f"{name[: width - 1 - end]}…{name[len(name) - end :]}"


def final_rows(folder: RunFolder, record: Record) -> list[tuple[str, str]]:
    """Return name and value of the key numbers at the end of a run, and the names of its files."""
    rows = [*key_rows(record), ("run folder", str(folder.path))]
    rows += [("picture", path.name) for path in list(record.pictures.values())[-1:]]
    files = {"loss plot": folder.losses_plot, "summary": folder.summary, "report": folder.report}
    rows += [(name, path.name) for name, path in files.items() if path.exists()]
    weights = [path.with_suffix(".safetensors").name for path in checkpoint_files(folder.checkpoints)[-1:]]
    return rows + [("weights", f"checkpoints/{name}") for name in weights]


def key_rows(record: Record) -> list[tuple[str, str]]:
    """Return name and value of the most important numbers of a run."""
    rows: list[tuple[str, str]] = []
    if record.evals:
        last, best = record.evals[-1], best_eval(record.evals)
        views = f" on {last.views} {last.split or 'test'} views" if last.views else ""
        at = clock(best.train_seconds) if best.train_seconds is not None else record.place(best)
        rows += [("PSNR", f"{last.psnr:.2f} dB{views}"), ("best PSNR", f"{best.psnr:.2f} dB at {at}")]
        if last.blank_psnr is not None:
            above = last.psnr - last.blank_psnr
            side = "above" if above >= 0 else "below"
            rows.append(("blank picture", f"{last.blank_psnr:.2f} dB (the run is {abs(above):.2f} dB {side})"))
        rows += [("SSIM", f"{last.ssim:.3f}")] if last.ssim is not None else []
    lines = sorted([*record.train, *record.evals], key=lambda point: point.order)
    if lines and (end := lines[-1]).step is not None and end.train_seconds is not None:
        speed = _rays_per_second(record)
        pace = "" if speed is None else f" ({speed:,.0f} rays/s)"
        rows.append(("training", f"{end.step} steps in {clock(end.train_seconds)}{pace}"))
    return rows


def _rays_per_second(record: Record) -> float | None:
    """Return the mean over the seconds of training, or None if not recorded."""
    known = [point for point in record.train if point.train_seconds is not None and point.rays_per_second is not None]
    rays = before = 0.0
    for point in known:
        assert point.train_seconds is not None and point.rays_per_second is not None
        rays, before = rays + point.rays_per_second * (point.train_seconds - before), point.train_seconds
    return rays / before if before > 0 else None
