"""The record of a run: what its folder holds so far, as typed values. A missing value is None.

The lines may come from this version of the trainer or from an older one, from a run that is still going or was killed,
or from a person who typed in a table. An evaluation may hold an epoch, a PSNR and nothing else.
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
    """One recorded line, and when it was recorded.

    Attributes:
        order: the line's position among all lines of ``metrics.jsonl``.
        steps: the steps trained so far, including those that a rollback discarded. None if not known.
        step: the step number, which a rollback sets back.
        epoch: the epoch number.
        train_seconds: the seconds of training so far.
    """

    order: int = 0
    steps: float | None = None
    step: int | None = None
    epoch: int | None = None
    train_seconds: float | None = None


@dataclass(frozen=True)
class Eval(Point):
    """The means over the held-out views of one evaluation.

    Attributes:
        index: the number of the evaluation, from 0.
        psnr: mean PSNR, dB. NaN if it is not a finite number.
        mse: mean squared error.
        ssim: mean structural similarity.
        blank_psnr: the PSNR of a blank picture on the same views, dB.
        views: the number of views.
        split: the split that the views come from.
    """

    index: int = 0
    psnr: float = math.nan
    mse: float | None = None
    ssim: float | None = None
    blank_psnr: float | None = None
    views: int | None = None
    split: str | None = None


@dataclass(frozen=True)
class Train(Point):
    """The means over some training steps.

    Attributes:
        loss: the training loss.
        mse: mean squared error of the rays.
        blank_mse: mean squared error of a blank picture on the same rays.
        lr: learning rate.
        grad_norm: greatest gradient norm of the steps.
        empty_rays: fraction of rays with an opacity below 0.01.
        opaque_rays: fraction of rays with an opacity above 0.99.
        alpha: mean alpha of the rays' pixels.
        rays_per_second: training speed.
    """

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
    """The state of the network at an evaluation.

    Attributes:
        lr: learning rate.
        empty_rays: fraction of rays with an opacity below 0.01.
        opaque_rays: fraction of rays with an opacity above 0.99.
        groups: for each layer group, its norms by name.
    """

    lr: float | None = None
    empty_rays: float | None = None
    opaque_rays: float | None = None
    groups: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class WatchdogEvent(Point):
    """A fault that the watchdog reported, and its reaction.

    Attributes:
        name: the name of the fault.
        sentence: the fault in words.
        evidence: the numbers behind it.
        policy: the reaction that the run's options ask for.
        action: what the watchdog did: ``warn``, ``rollback`` or ``stop``.
        to_step: the step that a rollback returned to.
        lr_scale: the factor on the learning rate after a rollback.
    """

    name: str = ""
    sentence: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    policy: str | None = None
    action: str | None = None
    to_step: int | None = None
    lr_scale: float | None = None


@dataclass(frozen=True)
class Record:
    """Everything that a run folder records.

    Attributes:
        path: the run folder.
        scene: the scene's name.
        config: the options that ``config.json`` names. An option that is missing there is not known.
        versions: the versions of the programs, by name.
        machine: the properties of the machine, by name.
        device: the device of the run. None if not known.
        notes: remarks about the scene.
        evals: the evaluations with a finite PSNR.
        train: the training lines.
        health: the health lines.
        events: the watchdog's reports.
        not_finite: the places of the evaluations without a finite PSNR, which are in no other list.
        pictures: the quick renders, by epoch.
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
        """Whether nerf_metal trained the run. Otherwise another program did, and a person typed the record in."""
        return "nerf_metal" in self.versions

    @property
    def unit(self) -> Unit:
        """The unit that numbers the evaluations.

        It is the epoch, or the step if two evaluations follow each other in one epoch, or the evaluation's own number
        if steps are not recorded.
        """
        epochs = [point.epoch for point in self.evals]
        if epochs and None not in epochs and all(a != b for a, b in pairwise(epochs)):
            return "epoch"
        return "evaluation" if any(point.step is None for point in self.evals) else "step"

    def number(self, point: Point) -> int | None:
        """Return the point's number in :attr:`unit`; an evaluation's own number starts from 1. None if not known."""
        if self.unit == "evaluation":
            return point.index + 1 if isinstance(point, Eval) else None
        number: int | None = getattr(point, self.unit)
        return number

    def place(self, point: Point) -> str:
        """Return where the point lies, in words: ``epoch 50``."""
        number = self.number(point)
        if number is None:
            return "a time that is not recorded" if point.step is None else f"step {point.step}"
        return f"{self.unit} {number}"

    def axis(self, point: Point) -> float:
        """Return the point's position on the horizontal axis of a plot, see :attr:`axis_name`."""
        if point.steps is None or self.unit == "evaluation":
            return float(self.number(point) or 0)
        return point.steps / (steps_per_epoch(self.config) if self.unit == "epoch" else 1)

    @property
    def axis_name(self) -> str:
        """The label of the horizontal axis of a plot."""
        again = any(event.to_step is not None for event in self.events)
        return f"{self.unit}{' (including those discarded by a rollback)' if again else ''}"

    @property
    def network_lines(self) -> list[Train | Health]:
        """The training lines and the health lines: both hold the learning rate and the opacity of the rays."""
        return [*self.train, *self.health]

    def option(self, name: str) -> Any:
        """Return the option's value, or None if it is not recorded."""
        return self.config.get(name)


def steps_per_epoch(config: Mapping[str, Any]) -> int:
    """Return the run's steps per epoch, or 1 if that is not recorded: epochs then stand for steps."""
    steps = config.get("steps_per_epoch")
    return steps if isinstance(steps, int) and steps > 0 else 1


def read_record(folder: RunFolder) -> Record:
    """Read a run folder. Missing files, missing values and values of a wrong type are no error.

    Raises:
        InputError: a line of ``metrics.jsonl`` other than the last one is damaged.
    """
    about = _read_config(folder.path)
    config = _mapping(about.get("config"))
    kinds: dict[str, type[Point]] = {"eval": Eval, "train": Train, "health": Health, "watchdog": WatchdogEvent}
    found: dict[str, list[Any]] = {kind: [] for kind in kinds}
    not_finite: list[str] = []
    again = 0  # steps that rollbacks discarded
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
    """Build a point from the values of a line that have the right type. The others keep their defaults."""
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
