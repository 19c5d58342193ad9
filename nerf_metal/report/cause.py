"""A cause of a failure: what it is made of, and the words that several share."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from nerf_metal.report.record import Eval, Point, Record


class Certainty(IntEnum):
    """How far the evidence reaches."""

    POSSIBLE = 1  # the options allow it; nothing measured speaks for it or against it
    LIKELY = 2  # something measured speaks for it
    SHOWN = 3  # it was measured itself


@dataclass(frozen=True)
class Cause:
    """One explanation.

    Attributes:
        evidence: sentences with this run's numbers.
        changes: what to do, with options of ``nerf-metal train``.
    """

    name: str
    sentence: str
    certainty: Certainty
    evidence: tuple[str, ...]
    changes: tuple[str, ...]


STABLE = "all of it at once: nerf-metal train --preset stable"


SHOWN_CAUSES: dict[str, tuple[str, tuple[str, ...]]] = {
    "non-finite": (
        "Loss, gradients or weights stopped being finite numbers",
        ("a smaller rate: --lr {lr}", "cut accidents: --clip-norm 1"),
    ),
    "dead-density": (
        "The density died: rays pass through an empty field, which has no gradient to grow from",
        ("--density-activation softplus", "--background random", "a smaller rate: --lr {lr}"),
    ),
    "saturated-density": (
        "The density saturated: every ray ends at once, in a fog around the camera",
        ("a smaller rate: --lr {lr}", "--warmup-steps 500", "--clip-norm 1"),
    ),
    "exploding-gradients": (
        "Gradients exploded",
        ("--clip-norm 1", "a smaller rate: --lr {lr}", "--warmup-steps 500"),
    ),
    "optimizer-reset": (
        "The optimizer lost its state: its next steps are as large as its first",
        ("resume from a whole checkpoint: nerf-metal train --resume {run}", "--warmup-steps 500"),
    ),
}
"""What the watchdog measured is shown, not guessed; its other names say what happened and not why."""


def at(record: Record, point: Point) -> str:
    """Where the point is: an evaluation as the report counts them, others by their step."""
    if isinstance(point, Eval):
        return record.place(point)
    return f"step {point.step}" if point.step is not None else record.place(point)


def short(value: object) -> str:
    """A number of the evidence."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def fill(text: str, record: Record) -> str:
    """Put a fifth of the run's learning rate, the step from 5e-4 to 1e-4, and its folder into the text."""
    lr = record.option("lr")
    lower = f"{lr / 5:.0e}".replace("e-0", "e-") if isinstance(lr, int | float) else "1e-4"
    return text.format(lr=lower, run=record.path)
