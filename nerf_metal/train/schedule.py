"""What depends on how much of a run is done: the learning rate, and when something is due."""

from __future__ import annotations

import math
from typing import NamedTuple

from nerf_metal.train.options import TrainConfig

LINE_EVERY_STEPS = 20
"""Steps of a line in ``metrics.jsonl``: reading the loss waits for the device, so not every step."""


def part_done(config: TrainConfig, step: int, train_seconds: float) -> float:
    """Return how much of the run is done, in [0, 1]: by steps or by seconds, whichever is further."""
    by_steps = step / config.step_limit if config.step_limit else 0.0
    by_seconds = train_seconds / config.max_seconds if config.max_seconds else 0.0
    return min(1.0, max(by_steps, by_seconds))


def learning_rate(config: TrainConfig, step: int, done: float) -> float:
    """Return the learning rate of a step: exponential decay (Mildenhall et al. 2020, section 5.3) after a linear
    warm-up.

    ``lr * decay^x`` where ``x`` is ``step / lr_decay_steps``, or ``done`` where the decay follows the whole run.

    Args:
        config: the options.
        step: number of steps done.
        done: how much of the run is done, in [0, 1].
    """
    x = step / config.lr_decay_steps if config.lr_decay_steps else done
    warm = min(1.0, (step + 1) / (config.warmup_steps + 1))
    return config.lr * warm * config.lr_decay**x


class Due(NamedTuple):
    """What comes after a step. Evaluations and checkpoints come right after a line that the watchdog has seen, so that
    nothing is saved as good that went bad since the last line."""

    line: bool
    evaluation: bool
    checkpoint: bool


class Schedule:
    """Decides what is due, by steps and by seconds of training.

    Args:
        config: the options.
        seconds: of training done.
    """

    def __init__(self, config: TrainConfig, seconds: float) -> None:
        """Count the time to the first evaluation from now."""
        self._config = config
        self._next_evaluation = self._after(config.eval_every_seconds, seconds)
        self._next_checkpoint = math.inf

    def due(self, step: int, seconds: float) -> Due:
        """Return what is due after ``step`` if it starts after so many seconds of training."""
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
