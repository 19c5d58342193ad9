"""The type of a cause of a failure, and the texts that several checks share."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from nerf_metal.report.record import Record
from nerf_metal.train.lines import EvalLine, Line


class Certainty(IntEnum):
    """How strongly the evidence supports a cause."""

    POSSIBLE = 1  # the options allow it; no recorded number speaks for it or against it
    LIKELY = 2  # a recorded number speaks for it
    SHOWN = 3  # the fault itself was recorded


@dataclass(frozen=True)
class Cause:
    """One explanation of a failure.

    Attributes:
        name: the short name of the cause. The report prints each name once.
        sentence: the cause in one sentence, without its full stop.
        certainty: how strongly the evidence supports it.
        evidence: sentences with this run's numbers.
        changes: what to do, with options of ``nerf-metal train``.
    """

    name: str
    sentence: str
    certainty: Certainty
    evidence: tuple[str, ...]
    changes: tuple[str, ...]


USE_STABLE = "Use the preset that combines such changes: nerf-metal train --preset stable"
LOWER_RATE = "Use a smaller learning rate: --lr {lr}"
WARM_UP = "Warm up the learning rate: --warmup-steps 500"
CLIP = "Clip the gradient norm: --clip-norm 1"
SOFTPLUS = "Use a density with a gradient everywhere: --density-activation softplus"

SHOWN_CAUSES: dict[str, tuple[str, tuple[str, ...]]] = {
    "non-finite": (
        "The loss, the gradients or the weights stopped being finite numbers",
        (LOWER_RATE, CLIP),
    ),
    "dead-density": (
        "The density died: rays pass through an empty field, which has no gradient to grow from",
        (SOFTPLUS, "Train over random background colours: --background random", LOWER_RATE),
    ),
    "saturated-density": (
        "The density saturated: every ray ends at once, in a fog around the camera",
        (LOWER_RATE, WARM_UP, CLIP),
    ),
    "exploding-gradients": (
        "The gradients exploded",
        (CLIP, LOWER_RATE, WARM_UP),
    ),
    "optimizer-reset": (
        "The optimizer lost its state: its next steps are as large as its first steps",
        ("Resume from a complete checkpoint: nerf-metal train --resume {run}", WARM_UP),
    ),
}
"""Sentence and changes of each watchdog fault that is itself a cause. The watchdog's other faults say what happened,
but not why."""


def place_of(record: Record, point: Line) -> str:
    """Return where a point lies in the run: an evaluation in the unit of the report, any other point by its step."""
    if isinstance(point, EvalLine):
        return record.place(point)
    return f"step {point.step}" if point.step is not None else record.place(point)


def short(value: object) -> str:
    """Return a value of the evidence as text; a float has four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def fill(text: str, record: Record) -> str:
    """Fill ``{lr}`` and ``{run}`` of a change: a fifth of the run's learning rate, and the run folder.

    A fifth is the step from 5e-4 to 1e-4, which is known to repair such runs (see ``PAPER_LR``). Without a recorded
    learning rate, ``{lr}`` is 1e-4.
    """
    lr = record.option("lr")
    lower = f"{lr / 5:.0e}".replace("e-0", "e-") if isinstance(lr, int | float) else "1e-4"
    return text.format(lr=lower, run=record.path)
