"""The schedule of a run: the learning rate, and the steps after which lines, evaluations and checkpoints are due."""

from __future__ import annotations

import math
from typing import NamedTuple

from nerf_metal.train.options import TrainConfig

LINE_EVERY_STEPS = 20
"""Number of steps of a line in ``metrics.jsonl``. Reading a line waits for the device, so not every step has one."""


def part_done(config: TrainConfig, step: int, train_seconds: float) -> float:
    """Return the fraction of the run that is done, in [0, 1]: by steps or by seconds, whichever is larger.

    Args:
        config: options of the run.
        step: number of steps done.
        train_seconds: seconds of training done.
    """
    by_steps = step / config.step_limit if config.step_limit else 0.0
    by_seconds = train_seconds / config.max_seconds if config.max_seconds else 0.0
    return min(1.0, max(by_steps, by_seconds))


def learning_rate(config: TrainConfig, step: int, done: float) -> float:
    """Return the learning rate of a step: exponential decay (Mildenhall et al. 2020, section 5.3) after a linear
    warm-up.

    ``lr * decay^x`` where ``x`` is ``step / lr_decay_steps``, or ``done`` where the decay follows the whole run.

    Args:
        config: options of the run.
        step: number of steps done.
        done: fraction of the run that is done, in [0, 1].
    """
    x = step / config.lr_decay_steps if config.lr_decay_steps else done
    warm = min(1.0, (step + 1) / (config.warmup_steps + 1))
    return config.lr * warm * config.lr_decay**x


class Due(NamedTuple):
    """The tasks that are due after a step.

    An evaluation or a checkpoint always comes with a line, which the watchdog checks first. So a checkpoint is not
    saved as good if the run has failed since the last line.

    Attributes:
        line: whether a line of the record is due.
        evaluation: whether an evaluation is due.
        checkpoint: whether a checkpoint is due.
    """

    line: bool
    evaluation: bool
    checkpoint: bool


class Schedule:
    """The times of lines, evaluations and checkpoints, by steps and by seconds of training.

    Args:
        config: options of the run.
        seconds: seconds of training done.
    """

    def __init__(self, config: TrainConfig, seconds: float) -> None:
        """Count the time to the first evaluation from now."""
        self._config = config
        self._next_evaluation = self._after(config.eval_every_seconds, seconds)
        self._next_checkpoint = math.inf

    def due(self, step: int, seconds: float) -> Due:
        """Return the tasks that are due after a step.

        Args:
            step: number of the step, from 1.
            seconds: seconds of training done when the step starts.
        """
        config = self._config
        by_epochs = step % (config.report_every * config.steps_per_epoch) == 0
        evaluation = by_epochs or seconds >= self._next_evaluation
        checkpoint = seconds >= self._next_checkpoint
        line = step % LINE_EVERY_STEPS == 0 or evaluation or checkpoint or step == config.step_limit
        return Due(line, evaluation, checkpoint)

    def evaluated(self, seconds: float) -> None:
        """Count the time to the next evaluation from now."""
        self._next_evaluation = self._after(self._config.eval_every_seconds, seconds)

    def saved(self, seconds: float) -> None:
        """Count the time to the next checkpoint from now."""
        self._next_checkpoint = self._after(self._config.checkpoint_every_seconds, seconds)

    @staticmethod
    def _after(wait: float | None, seconds: float) -> float:
        return math.inf if wait is None else seconds + wait
