"""The record of a run for TensorBoard, ``RUN/tensorboard``: an observer of the training (``--log tensorboard``)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import imageio.v3 as iio

from nerf_metal.models import Model
from nerf_metal.train.options import TrainConfig
from nerf_metal.train.run_folder import RunFolder
from nerf_metal.util.extras import require

NO_CURVES = ("step", "epoch", "train_seconds", "views")
"""Numbers of a line that say when and of what it is."""


def open_log(config: TrainConfig, folder: RunFolder, step: int) -> TensorboardLog | None:
    """The log that the options ask for, or None.

    Args:
        config: the options.
        folder: of the run.
        step: that the run begins after: 0, or that of the checkpoint it goes on from.

    Raises:
        InputError: the package is not installed.
    """
    return TensorboardLog(folder, step) if config.log == "tensorboard" else None


class TensorboardLog:
    """Writes the lines of ``metrics.jsonl`` as curves and texts, and the quick renders as pictures.

    What is there of steps after ``step`` disappears from the curves: a resumed run does them again. So does, at a
    rollback, what it took back: a curve has each step once, and ``metrics.jsonl`` keeps the whole story.
    """

    def __init__(self, folder: RunFolder, step: int) -> None:
        """Begin a file of events beside those that there are."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of their packages about each other: nothing that a person here can mend
            require("tensorboard", extra="tensorboard", command="train --log")
            from torch.utils.tensorboard import SummaryWriter
        self._folder, self._new_writer = folder, SummaryWriter
        self._picture: tuple[int, int] | None = None  # step and epoch of one that is due
        self._open(step)

    def line(self, event: str, values: Mapping[str, Any]) -> None:
        """A line of ``metrics.jsonl`` was written."""
        step = values["step"]
        if event == "watchdog":
            if values["action"] == "rollback":
                self._picture = None
                self._writer.close()
                self._open(values["to_step"])
            evidence = ", ".join(f"{name} {value}" for name, value in values["evidence"].items())
            text = f"{values['name']}: {values['sentence']} Done: {values['action']}. {evidence}"
            self._writer.add_text(event, text.rstrip(), step)
        elif event == "self_test":
            self._writer.add_text(event, values["sentence"], step)
        else:
            for name, value in _numbers(values):
                self._writer.add_scalar(f"{event}/{name}", value, step)
        if event == "eval":
            self._show_picture()
            self._picture = step, values["epoch"]
        self._writer.flush()  # a run that is killed now has lost no line that metrics.jsonl has

    def after_step(self, model: Model) -> None:
        """A step was done: the picture of an evaluation before it is there."""
        self._show_picture()

    def close(self) -> None:
        """Write what is left."""
        self._show_picture()
        self._writer.close()

    def _open(self, step: int) -> None:
        self._writer = self._new_writer(str(self._folder.path / "tensorboard"), purge_step=step + 1)

    def _show_picture(self) -> None:
        """The quick render of the last evaluation, which is drawn after its line."""
        if self._picture is None:
            return
        (step, epoch), self._picture = self._picture, None
        path = self._folder.quick_render(epoch)
        if path.exists():
            self._writer.add_image("quick render", iio.imread(path), step, dataformats="HWC")
            self._writer.flush()


def _numbers(values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Names and numbers of a line, those of layer groups by ``GROUP/NAME``."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            prefix = "" if name == "groups" else f"{name}/"
            yield from ((prefix + inner, number) for inner, number in _numbers(value))
        elif isinstance(value, int | float) and name not in NO_CURVES:
            yield name, value
