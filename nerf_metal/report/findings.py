"""The findings of a run: what its recorded numbers say, in plain sentences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, NamedTuple

from nerf_metal.report.phases import Phase, find_phases
from nerf_metal.report.record import Record, steps_per_epoch
from nerf_metal.train.lines import EvalLine, HealthLine, TrainLine, WatchdogLine
from nerf_metal.train.watchdog import BETTER_DB

Status = Literal["good", "unfinished", "failed", "unknown"]

GREY_DB = 10.0 * math.log10(4.0)
"""The least PSNR of a mid-grey picture, 6.02 dB: mid-grey is at most 0.5 away from any colour, so that its MSE is at
most 0.25."""
VIEWS_DB = 3.0
"""The most that the mean PSNR of the views may lie above the PSNR of their mean MSE. It is never below (Jensen's
inequality: -log is convex). For PSNRs with a normal distribution of deviation s, it is 0.115 s^2 dB above: 3 dB is
s = 5.1 dB, more than the views of one scene differ by."""
WELL_ABOVE_DB = 3.0
"""A run that is this far above a blank picture, with half its error, is useful."""


@dataclass(frozen=True)
class Findings:
    """What the recorded numbers say about a run.

    Attributes:
        status: ``good``, ``unfinished`` (nothing is wrong, but the run is not useful yet), ``failed``, or ``unknown``
            where the record does not tell.
        verdict: the result in one to three sentences.
        sentences: all findings, the most important first.
        unknown: sentences about numbers that are not recorded and would allow further findings.
        phases: what PSNR did over the evaluations.
        margin: the greatest lead of the PSNR over a blank picture's, dB. None if either is not recorded.
        blank: whether the run never beat a blank picture. None if that is not known.
        lost: whether the run collapsed and did not recover.
    """

    status: Status
    verdict: str
    sentences: tuple[str, ...]
    unknown: tuple[str, ...]
    phases: tuple[Phase, ...]
    margin: float | None
    blank: bool | None
    lost: bool

    @property
    def improving(self) -> bool:
        """Whether PSNR was still rising at the end of the run."""
        return bool(self.phases) and self.phases[-1].kind == "improving"


_LABELS: dict[Status, str] = {
    "good": "",
    "unfinished": "Not useful yet: ",
    "failed": "Failed: ",
    "unknown": "Not known: ",
}


def judge(record: Record) -> Findings:
    """Return the findings of a record."""
    evals = record.evals
    phases = tuple(find_phases([point.psnr for point in evals]))
    margin, against_blank = _against_blank(record)
    blank = None if margin is None else margin < BETTER_DB
    collapses = [phase for phase in phases if phase.kind == "collapse"]
    lost = bool(collapses) and not any(p.kind == "recovered" and p.start >= collapses[-1].end for p in phases)
    stopped = any(event.action == "stop" for event in record.events)
    improving = bool(phases) and phases[-1].kind == "improving"

    faults = []
    if lost:
        deepest = min(collapses, key=lambda phase: phase.change_db)
        faults.append(f"The run collapsed{_by_percent(deepest)} and did not recover.")
    faults += ["The watchdog stopped the run."] if stopped else []
    faults += ["The results stopped being finite numbers."] if record.not_finite else []
    if not evals:
        status: Status = "failed" if stopped or record.not_finite else "unknown"
        parts = [*faults, "The run recorded no evaluation."]
    else:
        if faults or blank is True:
            status = "unfinished" if improving and not faults else "failed"
        elif margin is None:
            status = "unknown"
        else:
            status = "good" if margin >= WELL_ABOVE_DB else "unfinished"
        parts = [against_blank, *faults] if blank else [*faults, against_blank]
        parts += ["The run was still improving at its end."] if improving and not faults else []
    label = _LABELS[status] if status != "unknown" or not evals else ""
    verdict = " ".join(parts)
    verdict = f"{label}{verdict[0].lower()}{verdict[1:]}" if label else verdict

    sentences = [against_blank] if evals else []
    sentences += _contradictions(record)
    sentences += _collapses(record, phases)
    sentences += _worse_than_grey(record)
    sentences += [f"PSNR is not a finite number at {listed(record.not_finite)}."] if record.not_finite else []
    sentences += _watchdog(record)
    sentences += _unfinished(record)
    return Findings(status, verdict, tuple(sentences), tuple(_unknown(record)), phases, margin, blank, lost)


def _by_percent(phase: Phase) -> str:
    """Return `` by 56 %``, or nothing where the PSNR at the start is not positive."""
    return "" if phase.change_percent is None else f" by {abs(phase.change_percent):.0f} %"


def listed(items: Sequence[str], most: int = 4) -> str:
    """Return at most ``most`` items as words: ``a, b and 3 more``."""
    if len(items) > most:
        return f"{', '.join(items[: most - 1])} and {len(items) - most + 1} more"
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def best_eval(evals: Iterable[EvalLine]) -> EvalLine:
    """Return the evaluation with the greatest PSNR; the first of them if there are several."""
    return max(evals, key=lambda point: point.psnr)


def _against_blank(record: Record) -> tuple[float | None, str]:
    """Return the greatest margin over a blank picture, dB, and a sentence about it; empty without evaluations."""
    known = [(point.psnr - point.blank_psnr, point) for point in record.evals if point.blank_psnr is not None]
    if not known:
        if not record.evals:
            return None, ""
        best = best_eval(record.evals)
        return None, (
            "The record does not say whether the run beats a blank picture: blank_psnr is missing. "
            f"The best PSNR is {best.psnr:.2f} dB at {record.place(best)}."
        )
    margin, best = max(known, key=lambda pair: pair[0])
    numbers = f"it has {best.psnr:.2f} dB at {record.place(best)}, where a blank picture has {best.blank_psnr:.2f} dB."
    if margin <= 0:
        return margin, f"The run was never better than a blank picture: {numbers}"
    if margin < BETTER_DB:
        return margin, f"The run was never better than a blank picture by more than {margin:.1f} dB: {numbers}"
    return margin, f"The run beats a blank picture by {margin:.1f} dB: {numbers}"


def _contradictions(record: Record) -> list[str]:
    """Find evaluations whose mean PSNR is impossible for their mean MSE."""
    both = [point for point in record.evals if point.mse is not None and point.mse > 0]
    half_psnr, half_mse = _half_digit([p.psnr for p in both]), _half_digit([p.mse or 0.0 for p in both])

    def contradicts(point: EvalLine) -> bool:
        assert point.mse is not None
        least = -10.0 * math.log10(point.mse + half_mse)
        most = -10.0 * math.log10(max(point.mse - half_mse, 1e-12)) + VIEWS_DB
        return not least <= point.psnr + half_psnr or not point.psnr - half_psnr <= most

    wrong = [point for point in both if contradicts(point)]
    if not wrong:
        return []
    begins = len(wrong) < len(both) and wrong == both[: len(wrong)]
    when = f"before {record.place(both[len(wrong)])}" if begins else _when(record, wrong, both)
    worst = best_eval(wrong)
    return [
        f"PSNR and MSE are inconsistent {when}: a PSNR of {worst.psnr:.2f} dB means an MSE of "
        f"{10 ** (-worst.psnr / 10):.3f}, but the record has {worst.mse:.3f}. Do not trust either number there."
    ]


def _when(record: Record, points: Sequence[EvalLine], among: Sequence[EvalLine]) -> str:
    """Return at which of the evaluations ``among`` the points lie, in words."""
    if len(points) == len(among):
        return "at every evaluation"
    first = among.index(points[0])
    if len(points) > 1 and list(points) == list(among[first : first + len(points)]):
        return f"from {record.place(points[0])} to {record.place(points[-1])}"
    return f"at {listed([record.place(point) for point in points])}"


def _half_digit(values: Sequence[float]) -> float:
    """Return half a unit of the last decimal place that any of the values was written with."""
    exponents = [Decimal(repr(value)).as_tuple().exponent for value in values]
    return 0.5 * 10.0 ** min((e for e in exponents if isinstance(e, int)), default=0)


def _collapses(record: Record, phases: Sequence[Phase]) -> list[str]:
    sentences, open_since = [], None
    evals = record.evals
    for phase in phases:
        first, last = evals[phase.start], evals[phase.end]
        if phase.kind == "collapse":
            share = "" if phase.change_percent is None else f" ({-phase.change_percent:.0f} %)"
            sentences.append(
                f"PSNR collapsed between {_between(record, first, last)}: it fell by {-phase.change_db:.2f} dB{share}, "
                f"from {first.psnr:.2f} to {last.psnr:.2f} dB."
            )
            open_since = phase if open_since is None else open_since
        elif phase.kind == "recovered":
            since = evals[open_since.start].order if open_since else first.order
            back = [event for event in record.events if event.action == "rollback" and since < event.order < last.order]
            how = "after a rollback" if back else "without a rollback"
            sentences.append(f"PSNR recovered by {record.place(last)}, {how}, to {last.psnr:.2f} dB.")
            open_since = None
    if open_since is not None:
        top, after = evals[open_since.start], evals[open_since.end :]
        if len(after) > 1:
            sentences.append(
                f"PSNR did not recover: in the {len(after) - 1} evaluations after the collapse it stayed at or below "
                f"{max(point.psnr for point in after):.2f} dB, from {top.psnr:.2f} dB before."
            )
        else:
            sentences.append("The record ends with the collapse.")
    return sentences


def _between(record: Record, first: EvalLine, last: EvalLine) -> str:
    numbers = record.number(first), record.number(last)
    return f"{record.unit}s {numbers[0]} and {numbers[1]}"


def _worse_than_grey(record: Record) -> list[str]:
    below = [point for point in record.evals if point.psnr < GREY_DB]
    if not below:
        return []
    least = min(below, key=lambda point: point.psnr)
    return [
        f"The run is worse than mid-grey {_when(record, below, record.evals)}: its lowest PSNR is {least.psnr:.2f} dB. "
        f"A mid-grey picture has an MSE of at most 0.25, so it has at least {GREY_DB:.2f} dB on any image. The "
        "pictures are wrong, not blank."
    ]


def action(event: WatchdogLine) -> str:
    """Return what the watchdog did, in words."""
    if event.action != "rollback":
        return {"warn": "warned", "stop": "stopped the run"}.get(event.action or "", "its action is not recorded")
    did = "rolled back" + ("" if event.to_step is None else f" to step {event.to_step}")
    return did + ("" if event.lr_scale is None else f", learning rate x {event.lr_scale:g}")


def _watchdog(record: Record) -> list[str]:
    if not record.events:
        return []
    rollbacks = any(event.action == "rollback" for event in record.events)
    did = [
        f"{event.name}{'' if event.step is None else f' at step {event.step}'} ({action(event)})"
        for event in record.events
    ]
    again = f" After a rollback, the run trained some {record.unit}s again and counts them again." if rollbacks else ""
    return [f"The watchdog reported {_counted(len(did), 'fault')}: {listed(did)}.{again}"]


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


class Limit(NamedTuple):
    """How far a run has come towards a limit that ends it.

    Attributes:
        part: the part of the limit that is reached, 1 at the end.
        option: the option's name, without its dashes.
        value: the option's value.
        words: the progress in words: ``200 of 1000 steps``.
    """

    part: float
    option: str
    value: float
    words: str


def limits(record: Record) -> list[Limit]:
    """Return the progress at the last recorded line towards each limit whose option is recorded."""
    lines = sorted([*record.evals, *record.train], key=lambda point: point.order)
    if not lines:
        return []
    last, per_epoch = lines[-1], steps_per_epoch(record.config)
    step, seconds = last.step if last.step is not None else last.epoch and last.epoch * per_epoch, last.train_seconds
    found = []
    for option, unit in (("steps", 1), ("epochs", per_epoch)):
        if isinstance(value := record.option(option), int) and value > 0 and step is not None:
            found.append(Limit(step / (value * unit), option, value, f"{step} of {value * unit} steps"))
    if isinstance(most := record.option("max_seconds"), int | float) and most > 0 and seconds is not None:
        found.append(Limit(seconds / most, "max-seconds", most, f"{seconds:.0f} of {most:.0f} seconds"))
    return found


def _unfinished(record: Record) -> list[str]:
    """Say how far the record goes if its options ask for more."""
    if not (record.evals or record.train):
        return ["Nothing is recorded yet: there is no training step and no evaluation."]
    nearest = max(limits(record), default=None)
    if nearest is None or nearest.part >= 0.999:  # seconds are rounded in the record
        return []
    return [f"{nearest.words} are recorded: the run is still going, or it was stopped early."]


def _unknown(record: Record) -> Iterable[str]:
    if record.device is None:
        yield "The device is not recorded, so the report cannot tell whether torch computes correctly on it."
    if "torch" not in record.versions:
        yield "The version of torch is not recorded."
    if not any(point.grad_norm is not None for point in record.train) and not record.health:
        yield "Gradient norms are not recorded."
    rays: list[TrainLine | HealthLine] = record.network_lines
    if not any(point.empty_rays is not None or point.opaque_rays is not None for point in rays):
        yield "The rays' opacity is not recorded, so the report cannot tell whether the density died or saturated."
    if not any(point.mse is not None for point in record.train):
        yield "The error of the training batches is not recorded, so the report cannot compare it with the test views."
