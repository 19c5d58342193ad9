"""What looks on while a run trains: a page, a log of another kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from nerf_metal.models import Method


class Observer(Protocol):
    """Called in the training's own thread, outside of its watch: what an observer takes is no training time. It draws
    nothing from torch's random state and changes no weight, so that a run is the same with it and without."""

    def line(self, event: str, values: Mapping[str, Any]) -> None:
        """A line of ``metrics.jsonl`` was written; ``values`` has ``step``, ``epoch`` and ``train_seconds`` too."""

    def after_step(self, method: Method) -> None:
        """A step was done: weights may be read now, until this returns."""

    def close(self) -> None:
        """Nothing more comes; called once by whoever made the observer, also where the run failed."""
