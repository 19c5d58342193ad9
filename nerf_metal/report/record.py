"""What a run has written so far, read from its folder into types; what is missing stays None.

Lines come from our trainer, from older versions of it, from a run that is still going or was killed, or from a person
who typed a table in: an evaluation may hold an epoch and a PSNR and nothing else.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, TypeVar

from nerf_metal.train.run_folder import RunFolder

Unit = Literal["epoch", "step", "evaluation"]


@dataclass(frozen=True)
class Point:
    """When something was recorded.

    Attributes:
        order: place among all lines.
        steps: steps trained so far, those that a rollback took back counted too; None where unknown.
    """

    order: int = 0
    steps: float | None = None
    step: int | None = None
    epoch: int | None = None
    train_seconds: float | None = None


@dataclass(frozen=True)
class Eval(Point):
    """Means over test views; ``index`` counts evaluations from 0."""

    index: int = 0
    psnr: float = math.nan
    mse: float | None = None
    ssim: float | None = None
    blank_psnr: float | None = None
    views: int | None = None
    split: str | None = None


@dataclass(frozen=True)
class Train(Point):
    """The means of some steps."""

    loss: float | None = None
    mse: float | None = None
    blank_mse: float | None = None
    lr: float | None = None
    grad_norm: float | None = None
    empty_rays: float | None = None
    opaque_rays: float | None = None
    alpha: float | None = None
    rays_per_second: float | None = None


@dataclass(frozen=True)
class Health(Point):
    """The network at an evaluation: norms by layer group."""

    lr: float | None = None
    empty_rays: float | None = None
    opaque_rays: float | None = None
    groups: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class WatchdogEvent(Point):
    """What the watchdog saw and did."""

    name: str = ""
    sentence: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    policy: str | None = None
    action: str | None = None
    to_step: int | None = None
    lr_scale: float | None = None


@dataclass(frozen=True)
class Record:
    """A run as its folder tells it.

    Attributes:
        config: the options that ``config.json`` names, and no others: a missing one is not known.
        not_finite: where an evaluation had no finite PSNR; those are in no other list.
        pictures: quick renders by epoch.
    """

    path: Path
    scene: str | None
    config: Mapping[str, Any]
    versions: Mapping[str, str]
    machine: Mapping[str, Any]
    device: str | None
    notes: tuple[str, ...]
    evals: tuple[Eval, ...]
    train: tuple[Train, ...]
    health: tuple[Health, ...]
    events: tuple[WatchdogEvent, ...]
    not_finite: tuple[str, ...]
    pictures: Mapping[int, Path]

    @property
    def ours(self) -> bool:
        """Whether nerf_metal trained it; else another program did, and somebody recorded it here."""
        return "nerf_metal" in self.versions

    @property
    def unit(self) -> Unit:
        """What evaluations are told apart by: epochs, but steps where two follow each other in one epoch."""
        epochs = [point.epoch for point in self.evals]
        if epochs and None not in epochs and all(a != b for a, b in pairwise(epochs)):
            return "epoch"
        return "evaluation" if any(point.step is None for point in self.evals) else "step"

    def number(self, point: Point) -> int | None:
        """The point's epoch, step or number of evaluation, by :attr:`unit`."""
        if self.unit == "evaluation":
            return point.index + 1 if isinstance(point, Eval) else None
        number: int | None = getattr(point, self.unit)
        return number

    def place(self, point: Point) -> str:
        """Where the point is, in words: ``epoch 50``."""
        number = self.number(point)
        if number is None:
            return "a time that is not recorded" if point.step is None else f"step {point.step}"
        return f"{self.unit} {number}"

    def axis(self, point: Point) -> float:
        """Where the point lies on a plot's axis, see :attr:`axis_name`."""
        if point.steps is None or self.unit == "evaluation":
            return float(self.number(point) or 0)
        return point.steps / (steps_per_epoch(self.config) if self.unit == "epoch" else 1)

    @property
    def axis_name(self) -> str:
        """Its label."""
        again = any(event.to_step is not None for event in self.events)
        return f"{self.unit}{' (those trained again after a rollback counted too)' if again else ''}"

    def option(self, name: str) -> Any:
        """The option's value; None where it is not recorded."""
        return self.config.get(name)


def steps_per_epoch(config: Mapping[str, Any]) -> int:
    """As the run counted; 1 where that is not recorded: then epochs stand for steps."""
    steps = config.get("steps_per_epoch")
    return steps if isinstance(steps, int) and steps > 0 else 1


def read_record(folder: RunFolder) -> Record:
    """Read a run's folder; nothing but a damaged line in the middle of ``metrics.jsonl`` is an error.

    Raises:
        InputError: such a line.
    """
    about = _read_config(folder.path)
    config = _mapping(about.get("config"))
    kinds: dict[str, type[Point]] = {"eval": Eval, "train": Train, "health": Health, "watchdog": WatchdogEvent}
    found: dict[str, list[Any]] = {kind: [] for kind in kinds}
    not_finite: list[str] = []
    again = 0  # steps that rollbacks took back
    for order, line in enumerate(folder.read_metrics()):
        kind = line.get("event", "eval" if "psnr" in line else None)
        if kind not in kinds:
            continue
        point = _build(kinds[kind], line)
        step = point.step if point.step is not None else point.epoch and point.epoch * steps_per_epoch(config)
        point = dataclasses.replace(point, order=order, steps=None if step is None else float(step + again))
        if isinstance(point, Eval):
            if not math.isfinite(point.psnr):
                not_finite.append(f"epoch {point.epoch}" if point.step is None else f"step {point.step}")
                continue
            point = dataclasses.replace(point, index=len(found["eval"]))
        if isinstance(point, WatchdogEvent) and point.to_step is not None and point.step is not None:
            again += max(0, point.step - point.to_step)
        found[kind].append(point)
    device = about.get("device") or config.get("device")
    notes = about.get("notes")
    return Record(
        path=folder.path,
        scene=about.get("scene"),
        config=config,
        versions={name: str(value) for name, value in _mapping(about.get("versions")).items()},
        machine=_mapping(about.get("machine")),
        device=device if isinstance(device, str) and device != "auto" else None,
        notes=tuple(str(note) for note in notes) if isinstance(notes, list) else (),
        evals=tuple(found["eval"]),
        train=tuple(found["train"]),
        health=tuple(found["health"]),
        events=tuple(found["watchdog"]),
        not_finite=tuple(not_finite),
        pictures=_pictures(folder.path),
    )


_Point = TypeVar("_Point", bound=Point)


def _build(kind: type[_Point], line: Mapping[str, Any]) -> _Point:
    """The line's values that the type has, and whose type is right; the others keep their defaults."""
    values: dict[str, Any] = {}
    for name, annotation in ((item.name, str(item.type)) for item in dataclasses.fields(kind)):
        value = line.get(name)
        if "Mapping" in annotation:
            right = isinstance(value, Mapping)
        elif "str" in annotation:
            right = isinstance(value, str)
        else:
            right = isinstance(value, int | float) and not isinstance(value, bool)
            right = right and (name == "psnr" or math.isfinite(value))  # type: ignore[arg-type]
            if right and "int" in annotation:
                right = float(value) == int(value)  # type: ignore[arg-type]
                value = int(value)  # type: ignore[arg-type]
        if right:
            values[name] = value
    return kind(**values)


def _read_config(path: Path) -> Mapping[str, Any]:
    try:
        return _mapping(json.loads((path / "config.json").read_text()))
    except (OSError, ValueError):
        return {}


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _pictures(path: Path) -> dict[int, Path]:
    found = {re.fullmatch(r"quick_render_epoch_(\d+)\.png", file.name): file for file in path.glob("quick_render_*")}
    return dict(sorted((int(match[1]), file) for match, file in found.items() if match))
