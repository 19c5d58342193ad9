"""Report of the ablation: outcomes, table, plot, and the sentences that the numbers support."""

from __future__ import annotations

import itertools
import statistics
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nerf_metal.train.options import TrainConfig
from nerf_metal.train.watchdog import BETTER_DB
from nerf_metal.util.atomic import write_atomically
from nerf_metal.util.errors import InputError

COLLAPSE_DB = TrainConfig.collapse_db
"""Fall in dB below its own best at which a run counts as collapsed: the default of the watchdog."""
TRAINED, PLATEAU, COLLAPSE, LOST = "trained", "blank plateau", "collapse", "not finite"
BEGIN, END = "<!-- ablation: begin -->", "<!-- ablation: end -->"


@dataclass(frozen=True)
class Run:
    """One run: its variant, the test PSNR at its steps, and the names of the faults that the watchdog saw."""

    variant: str
    says: str
    seed: int
    steps: list[int]
    psnr: list[float]
    blank_psnr: float | None
    faults: list[str]
    seconds: float

    @property
    def outcome(self) -> str:
        """How the run ended: trained, blank plateau, collapse or not finite."""
        if "non-finite" in self.faults or not self.psnr or self.blank_psnr is None:
            return LOST
        if self.psnr[-1] < max(self.psnr) - COLLAPSE_DB:
            return COLLAPSE
        return TRAINED if self.psnr[-1] >= self.blank_psnr + BETTER_DB else PLATEAU


def by_variant(runs: list[Run]) -> dict[str, list[Run]]:
    """Group runs by variant, in the order of their first runs."""
    variants: dict[str, list[Run]] = {}
    for one in runs:
        variants.setdefault(one.variant, []).append(one)
    return variants


def table(runs: list[Run]) -> str:
    """Write a Markdown table with a row for each variant: outcomes of its seeds, last PSNRs, and faults."""
    lines = [
        "| variant | what is different | trained | blank plateau | collapse | not finite | last PSNR of each seed, dB "
        "| best, dB | watchdog |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, group in by_variant(runs).items():
        counts = Counter(one.outcome for one in group)
        numbers = " | ".join(str(counts[outcome] or "") for outcome in (TRAINED, PLATEAU, COLLAPSE, LOST))
        last = ", ".join(f"{one.psnr[-1]:.1f}" if one.psnr else "-" for one in group)
        best = max((max(one.psnr) for one in group if one.psnr), default=0.0)
        faults = ", ".join(dict.fromkeys(fault for one in group for fault in one.faults)) or "silent"
        lines.append(f"| {name} | {group[0].says} | {numbers} | {last} | {best:.1f} | {faults} |")
    return "\n".join(lines)


def conclusions(runs: list[Run]) -> list[str]:
    """Write the sentences that the numbers of these runs show."""
    groups = by_variant(runs)
    blank = next((one.blank_psnr for one in runs if one.blank_psnr is not None), 0.0)

    def with_outcome(outcome: str) -> list[tuple[str, int, int]]:
        found = [(name, sum(one.outcome == outcome for one in group), len(group)) for name, group in groups.items()]
        return [entry for entry in found if entry[1]]

    def listed(entries: list[tuple[str, int, int]]) -> str:
        return ", ".join(f"*{name}* ({count} of {total} seeds)" for name, count, total in entries)

    plateau, collapse = with_outcome(PLATEAU), with_outcome(COLLAPSE)
    sentences = [
        f"Stuck near a blank picture for ever ({blank:.1f} dB here): {listed(plateau) or 'none of them'}.",
        f"Lost {COLLAPSE_DB:g} dB and more, not regained at the end: {listed(collapse) or 'none of them'}.",
        *(_fall(name, groups[name]) for name, _, _ in collapse),
    ]
    lost = with_outcome(LOST)
    if lost:
        sentences.append(f"Ended with numbers that are not finite: {listed(lost)}.")
    control = groups.get("control")
    if control and all(one.outcome == TRAINED for one in control):
        sentences += _harmless(groups, control)
    seeds = min(len(group) for group in groups.values())
    sentences.append(
        f"With {seeds} seeds an outcome that one run in {seeds + 1} has may be missing here, and these nets are "
        "small and their runs short: what needs 300 epochs to go wrong cannot show."
    )
    return sentences


def _fall(name: str, group: list[Run]) -> str:
    """Say how much was lost between the best evaluation and the end, and where the greatest fall was."""
    lost = [max(one.psnr) - one.psnr[-1] for one in group]
    steps = []
    for one in group:
        falls = [before - after for before, after in itertools.pairwise(one.psnr)]
        where = falls.index(max(falls))
        steps.append((max(falls), one.steps[where], one.steps[where + 1]))
    most, first, last = max(steps)
    return (
        f"*{name}* ended {min(lost):.1f} to {max(lost):.1f} dB below its own best; the greatest fall from one "
        f"evaluation to the next was {most:.1f} dB, between steps {first} and {last}."
    )


def _harmless(groups: dict[str, list[Run]], control: list[Run]) -> list[str]:
    """Compare each variant that still trains to the control and the spread of the control's seeds."""
    usual = [one.psnr[-1] for one in control]
    mean, spread = statistics.mean(usual), max(usual) - min(usual)
    sentences = [f"The control trained with every seed: {mean:.1f} dB, seeds {spread:.1f} dB apart."]
    for name, group in groups.items():
        if name == "control" or any(one.outcome != TRAINED for one in group):
            continue
        change = statistics.mean(one.psnr[-1] for one in group) - mean
        size = "within the spread of the seeds" if abs(change) <= spread else "more than the seeds are apart"
        sentences.append(f"*{name}* stopped no run: {change:+.1f} dB against the control, {size}.")
    return sentences


def section(runs: list[Run], about: dict[str, Any]) -> str:
    """Write the generated section of ``docs/failure.md``."""
    scene = about["scene"] or "the package's own scene"
    set_up = (
        f"{scene} at {about['size']} x {about['size']} pixels, nets {about['width']} wide, {about['steps']} steps of "
        f"128 rays with 16 + 24 samples, {about['seeds']} seeds, torch {about['torch']}; {about['minutes']} minutes on "
        f"{about['machine']['logical_cores']} cores."
    )
    points = "\n".join(f"- {sentence}" for sentence in conclusions(runs))
    return f"{set_up}\n\n{table(runs)}\n\n![Test PSNR over steps, a panel for each variant](ablation.png)\n\n{points}\n"


def check_marks(path: Path) -> str:
    """Return the text of a Markdown file that has marks for the section.

    Raises:
        InputError: the file does not hold each mark once.
    """
    whole = path.read_text() if path.is_file() else ""
    if whole.count(BEGIN) != 1 or whole.count(END) != 1:
        raise InputError(f"[ablation] {path} must hold the marks {BEGIN} and {END} once each; add them")
    return whole


def write_section(path: Path, text: str) -> None:
    """Replace the text between the marks of a Markdown file.

    Raises:
        InputError: the file has no marks.
    """
    whole = check_marks(path)
    head, tail = whole.split(BEGIN)[0], whole.split(END)[1]
    write_atomically(path, lambda to: to.write_text(f"{head}{BEGIN}\n{text}{END}{tail}"))


def plot(runs: list[Run], path: Path) -> None:
    """Plot test PSNR over steps, a panel for each variant, with the control in grey and the blank score."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    groups = by_variant(runs)
    columns = min(4, len(groups))
    rows = -(-len(groups) // columns)
    figure = Figure(figsize=(2.6 * columns, 2.1 * rows), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes in grid.flat[len(groups) :]:
        axes.set_visible(False)
    for axes, (name, group) in zip(grid.flat, groups.items(), strict=False):
        for one in groups.get("control", []):
            axes.plot(one.steps, one.psnr, color="0.8", lw=1)
        for one in group:
            axes.plot(one.steps, one.psnr, lw=1.2, label=f"seed {one.seed}")
        if group[0].blank_psnr is not None:
            axes.axhline(group[0].blank_psnr, color="tab:red", ls="--", lw=1)
        axes.set_title(name, fontsize=9)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.3)
    for column in grid.T:
        lowest = [axes for axes in column if axes.get_visible()][-1]
        lowest.set_xlabel("step", fontsize=8)
        lowest.tick_params(labelbottom=True)
    for axes in grid[:, 0]:
        axes.set_ylabel("PSNR [dB]", fontsize=8)
    write_atomically(path, lambda to: figure.savefig(to, format="png"))
