"""The contents of a report, as text and tables: ``SUMMARY.md`` and ``report.html`` print the same contents."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from nerf_metal.report.cause import Cause, Certainty
from nerf_metal.report.diagnosis import find_causes
from nerf_metal.report.findings import Status, action, best_eval, judge, listed
from nerf_metal.report.phases import Phase
from nerf_metal.report.record import Record
from nerf_metal.report.tables import Table, key_rows
from nerf_metal.train.lines import EvalLine, HealthLine, TrainLine
from nerf_metal.train.options import GROUPS
from nerf_metal.util.text import clock

ROWS = 24
"""The most rows of the progress table: they fit on a screen."""
CERTAINTY = {Certainty.SHOWN: "confirmed", Certainty.LIKELY: "likely", Certainty.POSSIBLE: "possible, not confirmed"}
"""The word for each certainty of a cause."""


@dataclass(frozen=True)
class Report:
    """Everything that the report says about a run.

    Attributes:
        title: the scene, the preset and the device.
        status: the result in one word, see :class:`nerf_metal.report.findings.Findings`.
        verdict: the result in one to three sentences.
        sentences: the findings, the most important first.
        unknown: sentences about numbers that are not recorded.
        key: name and value of the most important numbers.
        phases: what PSNR did over the evaluations.
        phase_table: the same as a table.
        causes: the causes of a failure, the most certain first.
        changes: the changes that all causes ask for, in the order of the causes, each once.
        progress: the evaluations. Of more than :data:`ROWS` evaluations, only some are listed.
        health: the norms of each layer group at the last evaluation.
        events: what the watchdog reported and did.
        pictures: caption and file of the first, the best and the last quick render.
        options: name and value of the recorded options, by group.
        machine: name and value of the machine's properties and of the versions.
        notes: remarks about the scene from ``config.json``.
        record: the record that all of this is made from.
    """

    title: str
    status: Status
    verdict: str
    sentences: tuple[str, ...]
    unknown: tuple[str, ...]
    key: tuple[tuple[str, str], ...]
    phases: tuple[Phase, ...]
    phase_table: Table
    causes: tuple[Cause, ...]
    changes: tuple[str, ...]
    progress: Table
    health: Table
    events: Table
    pictures: tuple[tuple[str, Path], ...]
    options: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    machine: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    record: Record


def build_report(record: Record) -> Report:
    """Return the report of a record."""
    findings = judge(record)
    causes = find_causes(record, findings)
    return Report(
        title=_title(record),
        status=findings.status,
        verdict=findings.verdict,
        sentences=findings.sentences,
        unknown=findings.unknown,
        key=tuple(key_rows(record)),
        phases=findings.phases,
        phase_table=_phase_table(record, findings.phases),
        causes=tuple(causes),
        changes=tuple(dict.fromkeys(change for cause in causes for change in cause.changes)),
        progress=_progress(record, findings.phases),
        health=_health(record.health),
        events=_events(record),
        pictures=tuple(_pictures(record)),
        options=tuple(_options(record)),
        machine=tuple(_machine(record)),
        notes=record.notes,
        record=record,
    )


def _title(record: Record) -> str:
    preset = record.option("preset")
    parts = [record.scene or record.path.name, f"preset {preset}" if preset else "", f"on {record.device}"]
    return ", ".join(part for part in parts[: 3 if record.device else 2] if part)


def _phase_table(record: Record, phases: Sequence[Phase]) -> Table:
    rows = []
    for phase in phases:
        first, last = record.evals[phase.start], record.evals[phase.end]
        share = "" if phase.change_percent is None else f"{phase.change_percent:+.0f}"
        where = f"{record.number(first)} to {record.number(last)}"
        rows.append((phase.kind, where, f"{first.psnr:.2f} to {last.psnr:.2f}", f"{phase.change_db:+.2f} dB", share))
    return Table(("phase", f"{record.unit}s", "PSNR [dB]", "change", "change [%]"), tuple(rows))


def _progress(record: Record, phases: Sequence[Phase]) -> Table:
    """List all evaluations, or the ends of phases, the best one, and others at even distances."""
    evals = record.evals
    kept = {point.index for point in evals}
    if len(evals) > ROWS:
        marks = {0, len(evals) - 1, best_eval(evals).index, *(phase.end for phase in phases)}
        even = max(2, ROWS - len(marks))
        kept = marks | {round(i * (len(evals) - 1) / (even - 1)) for i in range(even)}
    lines: list[TrainLine | HealthLine] = record.network_lines
    rates = [(point.order, point.lr) for point in lines if point.lr is not None]
    columns: list[tuple[str, list[str]]] = [
        (record.unit, [str(record.number(p)) for p in evals]),
        ("time", [_or_dash(p.train_seconds, clock) for p in evals]),
        ("PSNR", [f"{p.psnr:.2f}" for p in evals]),
        ("over blank", [_or_dash(_above(p), lambda x: f"{x:+.2f}") for p in evals]),
        ("MSE", [_or_dash(p.mse, lambda x: f"{x:.4f}") for p in evals]),
        ("SSIM", [_or_dash(p.ssim, lambda x: f"{x:.3f}") for p in evals]),
        ("lr", [_or_dash(_rate(rates, p.order), lambda x: f"{x:.2e}") for p in evals]),
    ]
    columns = [(name, cells) for name, cells in columns if any(cell != "-" for cell in cells)]
    rows = (tuple(cells[i] for _, cells in columns) for i in sorted(kept))
    return Table(tuple(name for name, _ in columns), tuple(rows), words=0)


def _above(point: EvalLine) -> float | None:
    return None if point.blank_psnr is None else point.psnr - point.blank_psnr


def _rate(rates: Sequence[tuple[int, float]], order: int) -> float | None:
    """Return the learning rate of the last line before an evaluation."""
    before = [pair for pair in rates if pair[0] <= order]
    return max(before)[1] if before else None


def _health(health: Sequence[HealthLine]) -> Table:
    head = ("layers", "gradient norm", "weight norm", "update / weight", "greatest")
    if not health:
        return Table(head, ())
    rows = []
    for name, now in health[-1].groups.items():
        ratios = [line.groups[name]["update_ratio"] for line in health if "update_ratio" in line.groups.get(name, {})]
        numbers = [now.get(key) for key in ("grad_norm", "weight_norm", "update_ratio")] + [max(ratios, default=None)]
        rows.append((name, *(_or_dash(number, lambda x: f"{x:.3g}") for number in numbers)))
    return Table(head, tuple(rows))


def _events(record: Record) -> Table:
    rows = []
    for event in record.events:
        numbers = ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in event.evidence.items())
        step = "-" if event.step is None else str(event.step)
        rows.append((step, event.name, event.sentence, numbers, action(event)))
    return Table(("step", "fault", "description", "numbers", "action"), tuple(rows), words=5)


def _pictures(record: Record) -> Iterable[tuple[str, Path]]:
    """List the first, the best and the last quick render, each file once."""
    if not record.pictures:
        return
    epochs = list(record.pictures)
    words = {epochs[0]: ["first"]}
    if record.evals and (best := best_eval(record.evals).epoch) in record.pictures:
        words.setdefault(best, []).append("best")  # type: ignore[arg-type]
    words.setdefault(epochs[-1], []).append("last")
    for epoch, names in words.items():
        yield f"{listed(names)}: epoch {epoch}", record.pictures[epoch]


def _options(record: Record) -> Iterable[tuple[str, tuple[tuple[str, str], ...]]]:
    """List the recorded options by group, without those of the other kind of field."""
    other = {"hashgrid": "frequency", "frequency": "hashgrid"}.get(record.option("field"))
    rest = dict(record.config)
    for group, kind in GROUPS.items():
        names = [field.name for field in fields(kind) if field.name in rest]
        rows = tuple((name, str(rest.pop(name))) for name in names)
        if rows and group != other:
            yield group, rows
    if rest:
        yield "other", tuple((name, str(value)) for name, value in rest.items())


def _machine(record: Record) -> Iterable[tuple[str, str]]:
    yield "device", record.device or "not recorded"
    for name, value in record.machine.items():
        if value is not None:
            yield name.replace("_", " ").replace("memory gib", "memory [GiB]"), str(value)
    yield from record.versions.items()
    if "torch" not in record.versions:
        yield "torch", "not recorded"


def _or_dash(value: float | None, text: Callable[[float], str]) -> str:
    return "-" if value is None else text(value)
