"""What a run's numbers say, in plain sentences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, NamedTuple

from nerf_metal.report.phases import Phase, find_phases
from nerf_metal.report.record import Eval, Health, Record, Train, WatchdogEvent, steps_per_epoch
from nerf_metal.train.watchdog import BETTER_DB

Status = Literal["good", "unfinished", "failed", "unknown"]

GREY_DB = 10.0 * math.log10(4.0)
"""6.02 dB: a mid-grey page is at most 0.5 away from any colour, so its MSE is at most 0.25 on any picture."""
VIEWS_DB = 3.0
"""How far the mean of PSNRs may lie above the PSNR of the mean error. It is never below it (Jensen: -log is convex);
for PSNRs spread normally over views with deviation s it is 0.115 s^2 dB above: 3 dB is s = 5.1 dB, more than the views
of one scene differ by."""
WELL_ABOVE_DB = 3.0
"""Half the error of a blank page: less above it is no use yet."""


@dataclass(frozen=True)
class Findings:
    """What the numbers say.

    Attributes:
        status: good, unfinished (nothing wrong, but no use of it yet), failed, or unknown where nothing says.
        verdict: one sentence.
        sentences: the others, most important first.
        unknown: what would be needed to say more.
        margin: best PSNR above the blank page, dB; None where either is not recorded.
        blank: whether the run never beat a blank page; None where not known.
        lost: whether a collapse was not recovered from.
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
        """Whether the run was still getting better at its end."""
        return bool(self.phases) and self.phases[-1].kind == "improving"


_WORDS: dict[Status, str] = {
    "good": "",
    "unfinished": "Not there yet: ",
    "failed": "Failed: ",
    "unknown": "Not known: ",
}


def find(record: Record) -> Findings:
    """Judge a record."""
    evals = record.evals
    phases = tuple(find_phases([point.psnr for point in evals]))
    margin, blank_sentence = _against_blank(record)
    blank = None if margin is None else margin < BETTER_DB
    collapses = [phase for phase in phases if phase.kind == "collapse"]
    lost = bool(collapses) and not any(p.kind == "recovered" and p.start >= collapses[-1].end for p in phases)
    stops = [event for event in record.events if event.action == "stop"]
    improving = bool(phases) and phases[-1].kind == "improving"

    ends = [f"collapsed by {percent(max(collapses, key=lambda p: -p.change_db))}and did not recover"] if lost else []
    ends += ["stopped by the watchdog"] if stops else []
    ends += ["no finite result any more"] if record.not_finite else []
    failed = bool(ends) or blank is True
    if not evals:
        status: Status = "failed" if stops or record.not_finite else "unknown"
        verdict = f"{_WORDS[status]}{', '.join([*ends, 'nothing was measured'])}."
    else:
        if failed:
            status = "unfinished" if improving and not ends else "failed"
        elif margin is None:
            status = "unknown"
        else:
            status = "good" if margin >= WELL_ABOVE_DB else "unfinished"
        lower = blank_sentence[0].lower() + blank_sentence[1:]
        end = f"; {' and '.join(ends)}" if ends else "; still improving" if improving else ""
        if ends and not blank:
            best = lower if blank is None else f"at its best it {lower.replace('its best is ', '')}"
            verdict = f"{_WORDS[status]}{' and '.join(ends)}; {best}."
        elif status in ("good", "unknown"):
            verdict = f"{blank_sentence}{end}."
        else:
            verdict = f"{_WORDS[status]}{lower}{end}."

    sentences = [blank_sentence + "."] if evals else []
    sentences += _contradictions(record)
    sentences += _collapses(record, phases)
    sentences += _worse_than_grey(record)
    sentences += [f"PSNR was not a finite number at {listed(record.not_finite)}."] if record.not_finite else []
    sentences += _watchdog(record)
    sentences += _unfinished(record)
    return Findings(status, verdict, tuple(sentences), tuple(_unknown(record)), phases, margin, blank, lost)


def percent(phase: Phase) -> str:
    """How much of its PSNR a phase took or gave, with a space behind; empty where that has no meaning."""
    return "" if phase.change_percent is None else f"{abs(phase.change_percent):.0f} % "


def listed(items: Sequence[str], most: int = 4) -> str:
    """Some of them in words: ``a, b and 3 more``."""
    if len(items) > most:
        return f"{', '.join(items[: most - 1])} and {len(items) - most + 1} more"
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def best_eval(evals: Iterable[Eval]) -> Eval:
    """The first with the highest PSNR."""
    return max(evals, key=lambda point: point.psnr)


def _against_blank(record: Record) -> tuple[float | None, str]:
    """The best margin, and the sentence (without its full stop) about it."""
    known = [(point.psnr - point.blank_psnr, point) for point in record.evals if point.blank_psnr is not None]
    if not known:
        if not record.evals:
            return None, ""
        best = best_eval(record.evals)
        where = f"its best is {best.psnr:.2f} dB at {record.place(best)}"
        return None, f"Whether it beats a blank picture is not known (blank_psnr is not recorded); {where}"
    margin, best = max(known, key=lambda pair: pair[0])
    numbers = f"{best.psnr:.2f} dB at {record.place(best)}, a blank picture has {best.blank_psnr:.2f} dB"
    if margin <= 0:
        return margin, f"Never better than a blank picture: its best is {numbers}"
    if margin < BETTER_DB:
        return margin, f"Never better than a blank picture by more than {margin:.1f} dB: its best is {numbers}"
    return margin, f"Beats a blank picture by {margin:.1f} dB: its best is {numbers}"


def _contradictions(record: Record) -> list[str]:
    """Evaluations whose mean PSNR cannot come with their mean error."""
    both = [point for point in record.evals if point.mse is not None and point.mse > 0]
    half_psnr, half_mse = _half_digit([p.psnr for p in both]), _half_digit([p.mse or 0.0 for p in both])

    def contradicts(point: Eval) -> bool:
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
        f"PSNR and MSE are inconsistent {when}: {worst.psnr:.2f} dB is MSE {10 ** (-worst.psnr / 10):.3f}, the record "
        f"says {worst.mse:.3f}. One of the two is not what its name says, so neither is to be trusted there."
    ]


def _when(record: Record, points: Sequence[Eval], among: Sequence[Eval]) -> str:
    """At which of the evaluations."""
    if len(points) == len(among):
        return "at every evaluation"
    first = among.index(points[0])
    if len(points) > 1 and list(points) == list(among[first : first + len(points)]):
        return f"from {record.place(points[0])} to {record.place(points[-1])}"
    return f"at {listed([record.place(point) for point in points])}"


def _half_digit(values: Sequence[float]) -> float:
    """Half a unit of the last decimal that any of the values was written with."""
    exponents = [Decimal(repr(value)).as_tuple().exponent for value in values]
    return 0.5 * 10.0 ** min((e for e in exponents if isinstance(e, int)), default=0)


def _collapses(record: Record, phases: Sequence[Phase]) -> list[str]:
    sentences, open_since = [], None
    evals = record.evals
    for phase in phases:
        first, last = evals[phase.start], evals[phase.end]
        if phase.kind == "collapse":
            size = f"{-phase.change_db:.2f} dB" + (f" ({percent(phase).strip()})" if percent(phase) else "")
            sentences.append(
                f"Collapse between {_between(record, first, last)}: PSNR fell by {size}, from {first.psnr:.2f} to "
                f"{last.psnr:.2f} dB."
            )
            open_since = phase if open_since is None else open_since
        elif phase.kind == "recovered":
            since = evals[open_since.start].order if open_since else first.order
            back = [event for event in record.events if event.action == "rollback" and since < event.order < last.order]
            how = " by a rollback" if back else " by itself"
            sentences.append(f"Recovered until {record.place(last)}{how}: {last.psnr:.2f} dB.")
            open_since = None
    if open_since is not None:
        top, after = evals[open_since.start], evals[open_since.end :]
        if len(after) > 1:
            sentences.append(
                f"No recovery: in the {len(after) - 1} evaluations after it PSNR never exceeded "
                f"{max(point.psnr for point in after):.2f} dB ({top.psnr:.2f} before)."
            )
        else:
            sentences.append("No recovery recorded: the record ends with it.")
    return sentences


def _between(record: Record, first: Eval, last: Eval) -> str:
    numbers = record.number(first), record.number(last)
    return f"{record.unit}s {numbers[0]} and {numbers[1]}"


def _worse_than_grey(record: Record) -> list[str]:
    below = [point for point in record.evals if point.psnr < GREY_DB]
    if not below:
        return []
    least = min(below, key=lambda point: point.psnr)
    return [
        f"Worse than mid-grey {_when(record, below, record.evals)} ({least.psnr:.2f} dB at worst): a page of 50 % grey "
        f"has an MSE of at most 0.25, which is {GREY_DB:.2f} dB, on any picture. Less is no blank page but a picture "
        "that is wrong."
    ]


def action(event: WatchdogEvent) -> str:
    """What the watchdog did, in words."""
    if event.action != "rollback":
        return {"warn": "warned", "stop": "stopped the run"}.get(event.action or "", "action not recorded")
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
    again = f" After a rollback {record.unit}s are trained, and counted, again." if rollbacks else ""
    return [f"The watchdog spoke up {times(len(did))}: {listed(did)}.{again}"]


def times(count: int) -> str:
    """``once``, ``twice``, ``3 times``."""
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


class Limit(NamedTuple):
    """How far a run has come towards something that ends it: the part of it, the option and its value, and in words."""

    part: float
    option: str
    value: float
    words: str


def limits(record: Record) -> list[Limit]:
    """Those of the options that are recorded, by the last line."""
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
    """How far the record goes, where its options say that it should go further."""
    if not (record.evals or record.train):
        return ["Nothing is recorded yet: no step of training, no evaluation."]
    nearest = max(limits(record), default=None)
    if nearest is None or nearest.part >= 0.999:  # seconds are rounded in the record
        return []
    return [f"{nearest.words} are recorded: the run is still going, or it was stopped."]


def _unknown(record: Record) -> Iterable[str]:
    if record.device is None:
        yield "the device is not recorded: whether torch computes right there cannot be judged"
    if "torch" not in record.versions:
        yield "torch's version is not recorded"
    if not any(point.grad_norm is not None for point in record.train) and not record.health:
        yield "gradient norms are not recorded"
    measured: list[Train | Health] = [*record.train, *record.health]
    if not any(point.empty_rays is not None or point.opaque_rays is not None for point in measured):
        yield "the rays' opacity is not recorded: whether the density died or saturated cannot be seen"
    if not any(point.mse is not None for point in record.train):
        yield "the training batches' error is not recorded: it cannot be compared with the test views'"
