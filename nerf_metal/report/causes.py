"""Why a run failed, as far as its own numbers say: causes with their evidence and what to change."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from nerf_metal.report import suspects
from nerf_metal.report.cause import SHOWN_CAUSES, STABLE, Cause, Certainty, at, fill, short
from nerf_metal.report.findings import Findings, limits
from nerf_metal.report.record import Record

FAST = "the hash grid, which learns more in the same time: nerf-metal train --preset fast"
NEAR_BLANK_DB = 1.0
"""Nearer a blank page than this, above or below, a picture shows one: pages of other colours lie that far apart."""


def find_causes(record: Record, findings: Findings) -> list[Cause]:
    """Causes, the most certain first; none for a run that is well."""
    collapsed = any(phase.kind == "collapse" for phase in findings.phases)
    failing = findings.status == "failed" or (findings.status == "unfinished" and not findings.improving)
    causes = list(_shown(record))
    if findings.improving and not findings.lost:
        causes += _too_short(record)
    if failing or collapsed:
        causes += suspects.matmul(record)
        causes += suspects.learning_rate(record, findings)
        causes += suspects.density(record)
        causes += suspects.background(record, findings)
        if failing and not any(cause.certainty >= Certainty.LIKELY for cause in causes):
            causes += _unexplained(record, findings)
    causes = [_usable(cause, record) for cause in causes]
    surest = {cause.name: cause for cause in sorted(causes, key=lambda cause: cause.certainty)}  # the last one stays
    return sorted(surest.values(), key=lambda cause: (-cause.certainty, causes.index(cause)))


def _usable(cause: Cause, record: Record) -> Cause:
    """Without changes that a hash grid does not have."""
    if record.option("field") != "hashgrid":
        return cause
    others = ("--clip-norm", "--density-activation", "--preset")
    changes = (change for change in cause.changes if not any(option in change for option in others))
    return dataclasses.replace(cause, changes=tuple(changes))


def _shown(record: Record) -> Iterator[Cause]:
    for name, (sentence, changes) in SHOWN_CAUSES.items():
        events = [event for event in record.events if event.name == name]
        if events:
            evidence = [f"watchdog at {at(record, event)}: {event.sentence}" for event in events[:3]]
            numbers = ", ".join(f"{key} {short(value)}" for key, value in events[0].evidence.items())
            evidence += [f"measured there: {numbers}"] if numbers else []
            evidence += [f"{len(events)} such events"] if len(events) > 1 else []
            yield Cause(name, sentence, Certainty.SHOWN, tuple(evidence), tuple(fill(x, record) for x in changes))
    if record.not_finite and not any(event.name == "non-finite" for event in record.events):
        sentence, changes = SHOWN_CAUSES["non-finite"]
        evidence = [f"PSNR is not a finite number at {record.not_finite[0]}"]
        yield Cause("non-finite", sentence, Certainty.SHOWN, tuple(evidence), tuple(fill(x, record) for x in changes))


def _unexplained(record: Record, findings: Findings) -> Iterator[Cause]:
    """A blank page, a collapse or an early plateau of which nothing measured says why."""
    plateau = any(event.name == "blank-plateau" for event in record.events)
    if not (findings.blank or plateau):
        sentence = f"It {'collapsed' if findings.lost else 'stopped improving early'}, and nothing recorded says why"
        measured = any(point.grad_norm is not None for point in record.train) or bool(record.health)
        stands = "gradient norms are not recorded"
        if measured:
            stands = (
                f"no gradient norm in a collapse is {suspects.EXPLODED:.0f} times the usual, and no update more than "
                f"{suspects.FAST_UPDATE:g} of the weights"
            )
        evidence = [*_last_scores(record), stands]
        cures = (fill("a smaller rate: --lr {lr}", record), STABLE) if findings.lost else (_longer(record), FAST)
        yield Cause("unexplained", sentence, Certainty.POSSIBLE, tuple(evidence), cures)
        return
    near = [p for p in record.evals if p.blank_psnr is not None and abs(p.psnr - p.blank_psnr) < NEAR_BLANK_DB]
    activation, background = record.option("density_activation"), record.option("background")
    evidence = [f"{len(near)} of {len(record.evals)} evaluations lie within {NEAR_BLANK_DB:.0f} dB of a blank page"]
    if not record.evals:
        last = record.train[-1] if record.train else None
        errors = f"{last.mse:.4f} and {last.blank_mse:.4f}" if last and last.mse and last.blank_mse else "not recorded"
        evidence = [f"the last training rays' error and a blank page's are {errors}"]
    evidence.append(f"--density-activation {activation}" if activation else "the density's activation is not recorded")
    evidence.append(f"--background {background}" if background else "the background is not recorded")
    changes = [] if activation == "softplus" else ["--density-activation softplus"]
    changes += [] if background == "random" else ["--background random: then no blank page is a way out"]
    yield Cause(
        "blank-page",
        "It paints the background: a density that died at the start (ReLU), or pictures that are mostly background",
        Certainty.POSSIBLE,
        tuple(evidence),
        (*changes, "another --seed shows whether it is chance", STABLE),
    )


def _too_short(record: Record) -> Iterator[Cause]:
    yield Cause(
        "too-short",
        "It was still improving: only too short",
        Certainty.LIKELY,
        tuple(_last_scores(record)),
        (_longer(record),),
    )


def _last_scores(record: Record) -> list[str]:
    """The end of the curve; nothing where nothing was measured."""
    last = [point.psnr for point in record.evals[-3:]]
    if not last:
        return []
    pace = (last[-1] - last[0]) / max(1, len(last) - 1)
    scores = ", ".join(f"{psnr:.2f}" for psnr in last)
    return [f"PSNR of the last evaluations: {scores} dB, {pace:+.2f} dB from one to the next"]


def _longer(record: Record) -> str:
    """Twice as long, by the limit that ended it."""
    nearest = max(limits(record), default=None)
    option, value = ("max-seconds", 300.0) if nearest is None else (nearest.option, nearest.value)
    return f"longer: nerf-metal train --resume {record.path} --{option} {2 * value:.0f}"
