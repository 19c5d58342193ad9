"""The diagnosis of a run: the causes of its failure that its own numbers support, with evidence and changes.

``cause`` holds the type of a cause, ``cause_checks`` one check for each cause that is inferred from the record. This
module adds the causes that need no check, and sorts all of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from nerf_metal.report import cause_checks
from nerf_metal.report.cause import (
    LOWER_RATE,
    SHOWN_CAUSES,
    SOFTPLUS,
    USE_STABLE,
    Cause,
    Certainty,
    fill,
    place_of,
    short,
)
from nerf_metal.report.findings import Findings, limits
from nerf_metal.report.record import Record

USE_FAST = "Use the hash grid, which learns more in the same time: nerf-metal train --preset fast"
NEAR_BLANK_DB = 1.0
"""A PSNR within this of the blank picture's, above or below, counts as a blank picture: blank pictures of other colours
differ by this much."""


def find_causes(record: Record, findings: Findings) -> list[Cause]:
    """Return the causes of a failure, the most certain first. Return none for a healthy run."""
    collapsed = any(phase.kind == "collapse" for phase in findings.phases)
    failing = findings.status == "failed" or (findings.status == "unfinished" and not findings.improving)
    causes = list(_from_watchdog(record))
    if findings.improving and not findings.lost:
        causes += _too_short(record)
    if failing or collapsed:
        causes += cause_checks.wrong_matmul(record)
        causes += cause_checks.learning_rate(record, findings)
        causes += cause_checks.density(record)
        causes += cause_checks.background(record, findings)
        if failing and not any(cause.certainty >= Certainty.LIKELY for cause in causes):
            causes += _unexplained(record, findings)
    causes = [_without_foreign_options(cause, record) for cause in causes]
    surest = {cause.name: cause for cause in sorted(causes, key=lambda cause: cause.certainty)}  # the last one stays
    return sorted(surest.values(), key=lambda cause: (-cause.certainty, causes.index(cause)))


def _without_foreign_options(cause: Cause, record: Record) -> Cause:
    """Remove the changes that a hash grid has no option for."""
    if record.option("field") != "hashgrid":
        return cause
    others = ("--clip-norm", "--density-activation", "--preset")
    changes = (change for change in cause.changes if not any(option in change for option in others))
    return dataclasses.replace(cause, changes=tuple(changes))


def _from_watchdog(record: Record) -> Iterator[Cause]:
    """Yield the faults that the watchdog recorded and that are themselves causes."""
    for name, (sentence, changes) in SHOWN_CAUSES.items():
        events = [event for event in record.events if event.name == name]
        if events:
            evidence = [f"Watchdog at {place_of(record, event)}: {event.sentence}" for event in events[:3]]
            numbers = ", ".join(f"{key} {short(value)}" for key, value in events[0].evidence.items())
            evidence += [f"The numbers recorded there: {numbers}."] if numbers else []
            evidence += [f"The watchdog recorded {len(events)} such events."] if len(events) > 1 else []
            yield Cause(name, sentence, Certainty.SHOWN, tuple(evidence), tuple(fill(x, record) for x in changes))
    if record.not_finite and not any(event.name == "non-finite" for event in record.events):
        sentence, changes = SHOWN_CAUSES["non-finite"]
        evidence = [f"PSNR is not a finite number at {record.not_finite[0]}."]
        yield Cause("non-finite", sentence, Certainty.SHOWN, tuple(evidence), tuple(fill(x, record) for x in changes))


def _unexplained(record: Record, findings: Findings) -> Iterator[Cause]:
    """Yield a cause for a blank picture, a collapse or an early plateau that no recorded number explains."""
    plateau = any(event.name == "blank-plateau" for event in record.events)
    if findings.blank or plateau:
        yield _blank_picture(record)
        return
    happened = "collapsed" if findings.lost else "stopped improving early"
    evidence = _last_scores(record)
    if any(point.grad_norm is not None for point in record.train) or record.health:
        evidence.append(
            f"In no collapse is a gradient norm {cause_checks.EXPLODED:.0f} times its usual value, or an update more "
            f"than {cause_checks.FAST_UPDATE:g} of the weights."
        )
    else:
        evidence.append("Gradient norms are not recorded.")
    changes = (fill(LOWER_RATE, record), USE_STABLE) if findings.lost else (_longer(record), USE_FAST)
    sentence = f"The run {happened}, and no recorded number says why"
    yield Cause("unexplained", sentence, Certainty.POSSIBLE, tuple(evidence), changes)


def _blank_picture(record: Record) -> Cause:
    near = [p for p in record.evals if p.blank_psnr is not None and abs(p.psnr - p.blank_psnr) < NEAR_BLANK_DB]
    activation, background = record.option("density_activation"), record.option("background")
    if record.evals:
        evidence = [
            f"{len(near)} of {len(record.evals)} evaluations lie within {NEAR_BLANK_DB:.0f} dB of a blank picture."
        ]
    else:
        last = record.train[-1] if record.train else None
        if last and last.mse and last.blank_mse:
            evidence = [
                f"The last training rays have an MSE of {last.mse:.4f}, and a blank picture has {last.blank_mse:.4f}."
            ]
        else:
            evidence = ["The training rays' error is not recorded."]
    evidence.append(
        f"The density has --density-activation {activation}."
        if activation
        else "The density's activation is not recorded."
    )
    evidence.append(
        f"The run has --background {background}." if background else "The background colour is not recorded."
    )
    changes = [] if activation == "softplus" else [SOFTPLUS]
    if background != "random":
        changes.append("Train over random background colours, which no blank picture matches: --background random")
    return Cause(
        "blank-page",
        "The run paints the background: its density died at the start, or the images are mostly background",
        Certainty.POSSIBLE,
        tuple(evidence),
        (*changes, "Train again with another --seed: it shows whether this was chance", USE_STABLE),
    )


def _too_short(record: Record) -> Iterator[Cause]:
    yield Cause(
        "too-short",
        "The run was too short: it was still improving",
        Certainty.LIKELY,
        tuple(_last_scores(record)),
        (_longer(record),),
    )


def _last_scores(record: Record) -> list[str]:
    """Return a sentence about the last evaluations, or nothing without evaluations."""
    last = [point.psnr for point in record.evals[-3:]]
    if not last:
        return []
    pace = (last[-1] - last[0]) / max(1, len(last) - 1)
    scores = ", ".join(f"{psnr:.2f}" for psnr in last)
    return [f"The last evaluations have a PSNR of {scores} dB, a change of {pace:+.2f} dB per evaluation."]


def _longer(record: Record) -> str:
    """Return the advice to train twice as long, with the option that ended the run."""
    nearest = max(limits(record), default=None)
    option, value = ("max-seconds", 300.0) if nearest is None else (nearest.option, nearest.value)
    return f"Train longer: nerf-metal train --resume {record.path} --{option} {2 * value:.0f}"
