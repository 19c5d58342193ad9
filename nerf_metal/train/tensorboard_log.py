"""The record of a run for TensorBoard: an observer that writes ``RUN/tensorboard`` (``--log tensorboard``)."""

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
"""Numbers of a line that are not drawn as curves, because they only identify the line."""


def open_log(config: TrainConfig, folder: RunFolder, step: int) -> TensorboardLog | None:
    """Open the log that the options ask for, or return None if they ask for none.

    Args:
        config: options of the run.
        folder: run folder.
        step: step after which the run begins: 0, or the step of the checkpoint that it continues from.

    Raises:
        InputError: the package is not installed.
    """
    return TensorboardLog(folder, step) if config.log == "tensorboard" else None


class TensorboardLog:
    """An observer that writes the lines of ``metrics.jsonl`` as curves and texts, and quick renders as pictures.

    Steps after ``step`` are removed from existing curves, because a resumed run repeats them. A rollback removes the
    steps that it takes back. So a curve has each step once, while ``metrics.jsonl`` keeps all of them.

    Args:
        folder: run folder.
        step: step after which the run begins.

    Raises:
        InputError: the package is not installed.
    """

    def __init__(self, folder: RunFolder, step: int) -> None:
        """Begin a new file of events next to the existing ones."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they concern other packages, and the user cannot correct them
            require("tensorboard", extra="tensorboard", command="train --log")
            from torch.utils.tensorboard import SummaryWriter
        self._folder, self._new_writer = folder, SummaryWriter
        self._picture: tuple[int, int] | None = None  # step and epoch of the one that is due
        self._open(step)

    def line(self, event: str, values: Mapping[str, Any]) -> None:
        """Write a line of ``metrics.jsonl``, see :meth:`nerf_metal.train.Observer.line`."""
        step = values["step"]
        if event == "watchdog":
            if values["action"] == "rollback":
                self._picture = None
                self._writer.close()
                self._open(values["to_step"])
            evidence = ", ".join(f"{name} {value}" for name, value in values["evidence"].items())
            text = f"{values['name']}: {values['sentence']} Action: {values['action']}. {evidence}"
            self._writer.add_text(event, text.rstrip(), step)
        elif event == "self_test":
            self._writer.add_text(event, values["sentence"], step)
        else:
            for name, value in _numbers(values):
                self._writer.add_scalar(f"{event}/{name}", value, step)
        if event == "eval":
            self._show_picture()
            self._picture = step, values["epoch"]
        self._writer.flush()  # if the run is killed now, the log has every line of metrics.jsonl

    def after_step(self, model: Model) -> None:
        """Write the quick render of an evaluation before this step, if there was one."""
        self._show_picture()

    def close(self) -> None:
        """Write the last quick render and close the file."""
        self._show_picture()
        self._writer.close()

    def _open(self, step: int) -> None:
        self._writer = self._new_writer(str(self._folder.path / "tensorboard"), purge_step=step + 1)

    def _show_picture(self) -> None:
        """Write the quick render of the last evaluation. Its file is written after the line of the evaluation."""
        if self._picture is None:
            return
        (step, epoch), self._picture = self._picture, None
        path = self._folder.quick_render(epoch)
        if path.exists():
            self._writer.add_image("quick render", iio.imread(path), step, dataformats="HWC")
            self._writer.flush()


def _numbers(values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield the names and numbers of a line. Numbers of layer groups have names ``GROUP/NAME``."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            prefix = "" if name == "groups" else f"{name}/"
            yield from ((prefix + inner, number) for inner, number in _numbers(value))
        elif isinstance(value, int | float) and name not in NO_CURVES:
            yield name, value
