"""The page while a run trains: it is rendered between the steps, in the training's own thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from nerf_metal.models import Model
from nerf_metal.viewer.status import TrainingStatus
from nerf_metal.viewer.viewer import Viewer

MOVING_SHARE, REST_SHARE = 2.0, 0.25
"""Seconds of rendering for each second of training: two thirds of the time while somebody moves, so that it is smooth;
a fifth at rest, where sharpness can wait."""
MOST_OWED = 0.2
"""Seconds of rendering saved up, at most: of a long evaluation nothing is left over for later."""
REFRESH_SECONDS = 2.0
"""Of training between two pictures of a page at rest: it is seen to get better."""


class TrainingViewer:
    """An :class:`nerf_metal.train.observer.Observer` that renders for a page.

    Args:
        viewer: the page.
        clock: seconds.
    """

    def __init__(self, viewer: Viewer, clock: Callable[[], float] = time.monotonic) -> None:
        """Add the training to the page."""
        self.viewer, self._clock = viewer, clock
        self.status = TrainingStatus(viewer.server)
        self._model: Model | None = None
        self._owed, self._last = 0.0, clock()
        self._refreshed = clock()

    def line(self, event: str, values: Mapping[str, Any]) -> None:
        """Show the line."""
        self.status.line(event, values)

    def after_step(self, model: Model) -> None:
        """Render for as long as the step has earned."""
        self._model = model
        now = self._clock()
        if now - self._refreshed > REFRESH_SECONDS:
            self._refreshed = now
            self.viewer.loop.outdate()
        share = MOVING_SHARE if self.viewer.loop.moving else REST_SHARE
        self._owed = min(MOST_OWED, self._owed + share * (now - self._last))
        while self._owed > 0:
            spent = self.viewer.work(model)
            if not spent:
                break
            self._owed -= spent
        self._last = self._clock()

    def stay(self, stop: Callable[[], bool]) -> None:
        """Serve what was trained until ``stop`` says so."""
        if self._model is not None:
            self.status.end()
            self.viewer.loop.outdate()
            self.viewer.serve(self._model, stop)

    def close(self) -> None:
        """Close the page."""
        self.viewer.close()
