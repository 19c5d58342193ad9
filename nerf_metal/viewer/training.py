"""The page during a training run: pictures are rendered between the steps, in the thread of the training."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from nerf_metal.models import Model
from nerf_metal.viewer.status import TrainingStatus
from nerf_metal.viewer.viewer import Viewer

MOVING_SHARE, REST_SHARE = 2.0, 0.25
"""The seconds of rendering for each second of training. While a camera moves, rendering takes two thirds of the time,
so that the motion is smooth. At rest it takes a fifth, since sharpness can wait."""
MOST_OWED = 0.2
"""The most seconds of rendering that can be saved up: a long evaluation must not cause a long break afterwards."""
REFRESH_SECONDS = 2.0
"""The seconds between two pictures of a page at rest: a reader sees the field improve."""


class TrainingViewer:
    """A :class:`nerf_metal.train.observer.Observer` that renders pictures for the page.

    Args:
        viewer: the page.
        clock: returns the time, seconds.
    """

    def __init__(self, viewer: Viewer, clock: Callable[[], float] = time.monotonic) -> None:
        """Add the training's status to the page."""
        self.viewer, self._clock = viewer, clock
        self.status = TrainingStatus(viewer.server)
        self._model: Model | None = None
        self._owed, self._last = 0.0, clock()
        self._refreshed = clock()

    def line(self, event: str, values: Mapping[str, Any]) -> None:
        """Show a line of ``metrics.jsonl`` in the panel."""
        self.status.line(event, values)

    def after_step(self, model: Model) -> None:
        """Render for the share of time that belongs to this step."""
        self._model = model
        now = self._clock()
        if now - self._refreshed > REFRESH_SECONDS:
            self._refreshed = now
            self.viewer.live.outdate()
        share = MOVING_SHARE if self.viewer.live.moving else REST_SHARE
        self._owed = min(MOST_OWED, self._owed + share * (now - self._last))
        while self._owed > 0:
            spent = self.viewer.work(model)
            if not spent:
                break
            self._owed -= spent
        self._last = self._clock()

    def stay(self, stop: Callable[[], bool]) -> None:
        """Serve the trained field until ``stop()`` returns true."""
        if self._model is not None:
            self.status.end()
            self.viewer.live.outdate()
            self.viewer.serve(self._model, stop)

    def close(self) -> None:
        """Close the page."""
        self.viewer.close()
