"""The interface of observers: objects that receive the progress of a run, such as the viewer or TensorBoard's log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from nerf_metal.models import Model


class Observer(Protocol):
    """An object that receives the lines and steps of a run.

    It is called in the thread of the training while the stopwatch stands still, so its time does not count as training.
    It must not draw from torch's random state and must not change weights, so that a run is the same with and without
    it.
    """

    def line(self, event: str, values: Mapping[str, Any]) -> None:
        """Receive a line that was written to ``metrics.jsonl``.

        Args:
            event: kind of the line.
            values: values of the line, including ``step``, ``epoch`` and ``train_seconds``.
        """

    def after_step(self, model: Model) -> None:
        """Receive the model after a step.

        Args:
            model: model for pictures. Its weights may be read until this method returns.
        """

    def close(self) -> None:
        """End the observation. The owner of the observer calls this once, also if the run failed."""
