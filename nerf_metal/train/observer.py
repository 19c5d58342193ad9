"""What looks on while a run trains: a page, or a log of another kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from nerf_metal.models import Model


class Observer(Protocol):
    """Looks on while a run trains.

    It is called in the thread of the training while the stopwatch stands still: the time that it takes is no training
    time. It draws nothing from torch's random state and changes no weight, so that a run is the same with and without
    it.
    """

    def line(self, event: str, values: Mapping[str, Any]) -> None:
        """A line of ``metrics.jsonl`` was written; ``values`` has ``step``, ``epoch`` and ``train_seconds`` too."""

    def after_step(self, model: Model) -> None:
        """A step was done. ``model`` makes pictures: its weights may be read until this returns."""

    def close(self) -> None:
        """Nothing more comes. Whoever made the observer calls this once, also where the run failed."""
