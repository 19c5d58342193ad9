"""The plots of a report: ``training_losses.png`` and ``psnr_ssim.png``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nerf_metal.report.findings import GREY_DB, best_eval
from nerf_metal.report.phases import Phase
from nerf_metal.report.record import Record
from nerf_metal.util.atomic import write_atomically
from nerf_metal.util.palette import BLUE, GREEN, GREY, ORANGE, RED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHADES = {"improving": GREEN, "plateau": GREY, "collapse": RED, "recovered": BLUE}
SMOOTH_PART = 50
"""The smooth line of the loss averages the number of lines divided by this: a plot cannot show many more details."""


def plot_losses(path: Path, record: Record) -> None:
    """Draw ``training_losses.png``: the recorded ones of loss, gradient norm and learning rate, on logarithmic axes."""
    panels = [
        ("loss", "loss", BLUE),
        ("grad_norm", "gradient norm", ORANGE),
        ("lr", "learning rate", GREEN),
    ]
    series = [
        (label, color, [(record.axis(p), value) for p in record.train if (value := getattr(p, name)) and value > 0])
        for name, label, color in panels
    ]
    series = [part for i, part in enumerate(series) if part[2] or i == 0]
    figure, rows = _figure(3.2 + 1.7 * (len(series) - 1), [2.0] + [1.0] * (len(series) - 1))
    for axes, (label, color, points) in zip(rows, series, strict=True):
        if not points:
            _say(axes, "no training step is recorded")
            continue
        x, y = [p[0] for p in points], [p[1] for p in points]
        smooth = label == "loss" and len(y) > 2 * SMOOTH_PART
        axes.plot(x, y, color=color, lw=0.6 if smooth else 1.2, alpha=0.45 if smooth else 1.0)
        if smooth:
            axes.plot(x, _running_mean(y, len(y) // SMOOTH_PART), color=color, lw=1.8, label="running mean")
        axes.set(ylabel=label, yscale="log")
    _mark_events(rows, record)
    _finish(path, figure, rows, record, "Training")


def plot_scores(path: Path, record: Record, phases: Sequence[Phase]) -> None:
    """Draw ``psnr_ssim.png``: PSNR beside a blank picture's PSNR, and SSIM, with shaded phases and marked rollbacks."""
    evals = record.evals
    figure, rows = _figure(5.6, [2.2, 1.0])
    top, bottom = rows
    if not evals:
        _say(top, "no evaluation is recorded")
        _say(bottom, "")
    else:
        x = [record.axis(point) for point in evals]
        marker = "o" if len(evals) <= 60 else None
        for axes in rows:
            _shade(axes, x, phases, legend=axes is top)
        top.plot(x, [point.psnr for point in evals], color=BLUE, marker=marker, ms=4, label="test views")
        best = best_eval(evals)
        top.annotate(
            f"{best.psnr:.2f} dB", (record.axis(best), best.psnr), (0, 7), textcoords="offset points", ha="center"
        )
        blank = [(record.axis(point), point.blank_psnr) for point in evals if point.blank_psnr is not None]
        if blank:
            line: dict[str, Any] = {"color": "black", "ls": "--", "lw": 1.2, "label": "blank picture"}
            if len(blank) == 1:  # one point is no line
                top.axhline(blank[0][1], **line)
            else:
                top.plot([p[0] for p in blank], [p[1] for p in blank], **line)
        if min(point.psnr for point in evals) < GREY_DB:
            top.axhline(GREY_DB, color="black", ls=":", lw=1.0, label="mid-grey picture")
        ssim = [(record.axis(point), point.ssim) for point in evals if point.ssim is not None]
        if ssim:
            bottom.plot([p[0] for p in ssim], [p[1] for p in ssim], color=ORANGE, marker=marker, ms=4)
        else:
            _say(bottom, "SSIM is not recorded")
        top.set(ylabel="PSNR [dB]")
        top.margins(y=0.14)
        bottom.set(ylabel="SSIM")
    _mark_events(rows, record)
    _finish(path, figure, rows, record, "Test views")


def _figure(height: float, ratios: Sequence[float]) -> tuple[Figure, list[Axes]]:
    # Importing matplotlib takes half a second: do it only when a report is written.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(ratios), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": ratios})
    return figure, list(grid[:, 0])


def _shade(axes: Axes, x: Sequence[float], phases: Sequence[Phase], *, legend: bool) -> None:
    seen: set[str] = set()
    for phase in phases:
        label = phase.kind if legend and phase.kind not in seen else None
        seen.add(phase.kind)
        axes.axvspan(x[phase.start], x[phase.end], color=SHADES[phase.kind], alpha=0.16, lw=0, label=label)


def _mark_events(rows: Sequence[Axes], record: Record) -> None:
    """Draw a line where the watchdog rolled the run back or stopped it."""
    for name, color in (("rollback", RED), ("stop", "black")):
        places = [record.axis(event) for event in record.events if event.action == name]
        for axes in rows:
            for i, x in enumerate(places):
                axes.axvline(x, color=color, ls="-.", lw=1.2, label=name if i == 0 else None)


def _finish(path: Path, figure: Figure, rows: Sequence[Axes], record: Record, title: str) -> None:
    for axes in rows:
        axes.grid(alpha=0.3)
    handles, labels = rows[0].get_legend_handles_labels()
    if handles:
        rows[0].legend(handles, labels, loc="upper left", bbox_to_anchor=(1.0, 1.02), frameon=False)
    rows[0].set_title(title, loc="left")
    rows[-1].set_xlabel(record.axis_name)
    figure.align_ylabels()
    write_atomically(path, lambda to: figure.savefig(to, format="png"))


def _say(axes: Axes, words: str) -> None:
    axes.text(0.5, 0.5, words, ha="center", va="center", transform=axes.transAxes, color="0.4")
    axes.set_yticks([])


def _running_mean(values: Sequence[float], width: int) -> list[float]:
    """Return for each value the mean over up to ``width`` values on each side."""
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    bounds = [(max(0, i - width), min(len(values), i + width + 1)) for i in range(len(values))]
    return [(sums[last] - sums[first]) / (last - first) for first, last in bounds]
