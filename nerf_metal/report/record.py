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
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from nerf_metal.train.lines import EvalLine, HealthLine, Line, TrainLine, WatchdogLine, line_of
from nerf_metal.train.run_folder import RunFolder

Unit = Literal["epoch", "step", "evaluation"]


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
    evals: tuple[EvalLine, ...]
    train: tuple[TrainLine, ...]
    health: tuple[HealthLine, ...]
    events: tuple[WatchdogLine, ...]
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

    def number(self, point: Line) -> int | None:
        """Return the point's number in :attr:`unit`; an evaluation's own number starts from 1. None if not known."""
        if self.unit == "evaluation":
            return point.index + 1 if isinstance(point, EvalLine) else None
        number: int | None = getattr(point, self.unit)
        return number

    def place(self, point: Line) -> str:
        """Return where the point lies, in words: ``epoch 50``."""
        number = self.number(point)
        if number is None:
            return "a time that is not recorded" if point.step is None else f"step {point.step}"
        return f"{self.unit} {number}"

    def axis(self, point: Line) -> float:
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
    def network_lines(self) -> list[TrainLine | HealthLine]:
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
    evals: list[EvalLine] = []
    train: list[TrainLine] = []
    health: list[HealthLine] = []
    events: list[WatchdogLine] = []
    not_finite: list[str] = []
    again = 0  # steps that rollbacks discarded
    for order, values in enumerate(folder.read_metrics()):
        line = line_of(values)
        if line is None:
            continue
        step = line.step if line.step is not None else line.epoch and line.epoch * steps_per_epoch(config)
        line = dataclasses.replace(line, order=order, steps=None if step is None else float(step + again))
        match line:
            case EvalLine() if not math.isfinite(line.psnr):
                not_finite.append(f"epoch {line.epoch}" if line.step is None else f"step {line.step}")
            case EvalLine():
                evals.append(dataclasses.replace(line, index=len(evals)))
            case TrainLine():
                train.append(line)
            case HealthLine():
                health.append(line)
            case WatchdogLine():
                events.append(line)
                if line.to_step is not None and line.step is not None:
                    again += max(0, line.step - line.to_step)
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
        evals=tuple(evals),
        train=tuple(train),
        health=tuple(health),
        events=tuple(events),
        not_finite=tuple(not_finite),
        pictures=_pictures(folder.path),
    )


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
