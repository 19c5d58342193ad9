"""The lines of ``metrics.jsonl``: the single definition of every number that a run records.

The loop makes the lines, the watchdog judges them, observers show them, the file holds them as JSON, and the report
reads them back. Lines may also come from an older version, from a run that was killed, or from a person who typed a
table: a value that a line does not give is None.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar


def _rounded(digits: int) -> Any:
    """Declare a number that the file holds with ``digits`` digits after the point, which keeps a line short."""
    return field(default=None, metadata={"digits": digits})


def _given() -> Any:
    """Declare a number that every line of this version has."""
    return field(default=None)


def _not_written(default: Any) -> Any:
    """Declare a value that the file does not hold."""
    return field(default=default, metadata={"written": False})


@dataclass(frozen=True, kw_only=True)
class Line:
    """The values that every line of ``metrics.jsonl`` has: its kind and the time when it was recorded.

    Attributes:
        event: kind of the line.
        step: number of training steps done.
        epoch: number of whole epochs done.
        train_seconds: seconds of training done.
        order: index of the line among all lines. A reader counts it.
        steps: number of steps trained so far, including those that a rollback took back. A reader counts it.
    """

    event: ClassVar[str]
    step: int | None = None
    epoch: int | None = None
    train_seconds: float | None = _rounded(3)
    order: int = _not_written(0)
    steps: float | None = _not_written(None)

    def to_json(self) -> dict[str, Any]:
        """Return the line as ``metrics.jsonl`` holds it. Values of None are left out, unless the field keeps them."""
        values: dict[str, Any] = {"event": self.event}
        for item in dataclasses.fields(self):
            value, digits = getattr(self, item.name), item.metadata.get("digits")
            if item.metadata.get("written", True) and (value is not None or item.metadata.get("null")):
                values[item.name] = value if digits is None or value is None else round(value, digits)
        return values


@dataclass(frozen=True, kw_only=True)
class TrainLine(Line):
    """The means over the training steps since the line before.

    A line that this version wrote has all of these numbers. A line from another source may lack some, which are None.

    Attributes:
        loss: loss that training minimises.
        mse: mean squared error of the rays.
        blank_mse: mean squared error of the best picture without content on the same rays.
        grad_norm: largest norm of the gradient, before clipping.
        lr: learning rate of the last of the steps.
        empty_rays: fraction of rays whose opacity is below 0.01.
        opaque_rays: fraction of rays whose opacity is above 0.99.
        alpha: mean alpha of the pixels of the rays.
        rays_per_second: number of rays trained on, per second.
        samples_per_second: number of samples with a gradient, per second.
        lost_moments: fraction of Adam's second moments that fell faster than Adam allows. For the watchdog only.
        over_steps: number of steps of the line. The loop computes speeds from it and from the next two.
        rays: number of rays trained on.
        samples: number of samples that had a gradient.
    """

    event = "train"
    loss: float = _given()
    mse: float = _given()
    blank_mse: float = _given()
    grad_norm: float = _given()
    lr: float = _given()
    empty_rays: float = _rounded(4)
    opaque_rays: float = _rounded(4)
    alpha: float = _rounded(4)
    rays_per_second: float = _rounded(1)
    samples_per_second: float = _rounded(1)
    lost_moments: float = _not_written(0.0)
    over_steps: int = _not_written(0)
    rays: int = _not_written(0)
    samples: int = _not_written(0)


@dataclass(frozen=True, kw_only=True)
class EvalLine(Line):
    """The means over the test views of one evaluation.

    Attributes:
        split: name of the split.
        views: number of views.
        mse: mean squared error.
        psnr: PSNR, dB.
        ssim: structural similarity.
        blank_psnr: PSNR of the best picture of one colour on the same views, dB.
        index: number of the evaluation, from 0. A reader counts it.
    """

    event = "eval"
    split: str | None = None
    views: int | None = None
    mse: float | None = None
    psnr: float = math.nan
    ssim: float | None = None
    blank_psnr: float | None = None
    index: int = _not_written(0)


@dataclass(frozen=True, kw_only=True)
class HealthLine(Line):
    """The state of the network at an evaluation.

    Attributes:
        lr: learning rate.
        empty_rays: fraction of rays whose opacity is below 0.01, from the last :class:`TrainLine`.
        opaque_rays: fraction of rays whose opacity is above 0.99, from the last :class:`TrainLine`.
        groups: norm of the gradient, norm of the weights and ratio of the update to the weights, by layer group.
    """

    event = "health"
    lr: float | None = None
    empty_rays: float | None = field(default=None, metadata={"digits": 4, "null": True})
    opaque_rays: float | None = field(default=None, metadata={"digits": 4, "null": True})
    groups: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class WatchdogLine(Line):
    """A fault that the watchdog found, and the recovery from it.

    Attributes:
        name: name of the fault, see :data:`nerf_metal.train.options.WATCHDOG_FAULTS`.
        sentence: description of the fault for a person.
        evidence: numbers that show the fault.
        policy: policy that the options set for this fault.
        action: action that was taken: warn, rollback or stop.
        to_step: step of the checkpoint that a rollback returned to; None for other actions.
        lr_scale: factor on the learning rate after a rollback; None for other actions.
    """

    event = "watchdog"
    name: str = ""
    sentence: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    policy: str | None = None
    action: str | None = None
    to_step: int | None = None
    lr_scale: float | None = None


@dataclass(frozen=True, kw_only=True)
class SelfTestLine(Line):
    """The result of the test whether the device computes correct gradients.

    Attributes:
        sentence: description of the result for a person.
        seconds: duration of the test, seconds.
        tested: number of shapes that were tested.
        untested: number of shapes for which there was no time.
    """

    event = "self_test"
    sentence: str = ""
    seconds: float | None = _rounded(3)
    tested: int | None = None
    untested: int | None = None


KINDS: Mapping[str, type[Line]] = {
    kind.event: kind for kind in (TrainLine, EvalLine, HealthLine, WatchdogLine, SelfTestLine)
}


def line_of(values: Mapping[str, Any]) -> Line | None:
    """Return the line that a JSON object of ``metrics.jsonl`` holds, or None if its kind is unknown.

    A value that does not have the type of its field counts as not given. An object without ``event`` is an evaluation
    if it has a ``psnr``.

    Args:
        values: the JSON object.
    """
    kind = KINDS.get(values.get("event", "eval" if "psnr" in values else None))
    if kind is None:
        return None
    given: dict[str, Any] = {}
    for item in dataclasses.fields(kind):
        if item.metadata.get("written", True) and item.name in values:
            fits, value = _read(item.name, str(item.type), values[item.name])
            if fits:
                given[item.name] = value
    return kind(**given)


def _read(name: str, annotation: str, value: object) -> tuple[bool, Any]:
    """Return whether a value fits the type of its field, and the value in that type."""
    if "Mapping" in annotation:
        return isinstance(value, Mapping), value
    if "str" in annotation:
        return isinstance(value, str), value
    if not isinstance(value, int | float) or isinstance(value, bool) or not (name == "psnr" or math.isfinite(value)):
        return False, None
    if "int" in annotation:
        return float(value) == int(value), int(value)
    return True, value
