"""The panel that shows the progress of a training run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from nerf_metal.train import metrics
from nerf_metal.util.text import clock

UPDATE_SECONDS = 0.5
"""The time between two updates of the panel: lines come every few steps, and nobody reads faster."""
MOST_POINTS = 400
"""The most points of the curve: the panel is about as many pixels wide."""


class TrainingStatus:
    """Shows step, time, loss, PSNR and speed, and a curve of the PSNR, from the lines of ``metrics.jsonl``.

    Args:
        server: the viser server of the page.
    """

    def __init__(self, server: Any) -> None:
        """Add the status to the panel."""
        self._shown = -UPDATE_SECONDS
        self._evaluated = ""
        self._points: list[tuple[float, float]] = []
        gui = server.gui
        with gui.add_folder("Training", order=-1.0):
            self._text = gui.add_markdown("Waiting for the first training steps.")
            self._plot = gui.add_uplot(
                (np.zeros(1), np.full(1, np.nan)),
                ({"label": "seconds"}, {"label": "PSNR of batches, dB", "stroke": "#e67814", "width": 1}),
                scales={"x": {"time": False}},
                height=160,
                visible=False,
            )

    def line(self, event: str, values: Mapping[str, Any]) -> None:
        """Show a line of ``metrics.jsonl``.

        Args:
            event: the kind of line.
            values: the line's values by name.
        """
        if event == "eval":
            self._evaluated = f"PSNR of test views: **{values['psnr']:.2f} dB** at step {values['step']}"
        if event == "watchdog":
            self._evaluated = f"watchdog at step {values['step']}: {values['name']}, {values['action']}"
        if event != "train":
            return
        psnr = metrics.psnr(values["mse"])
        self._points.append((values["train_seconds"], psnr))
        if len(self._points) > MOST_POINTS:
            del self._points[1::2]
        if time.monotonic() - self._shown < UPDATE_SECONDS:
            return
        self._shown = time.monotonic()
        rows = {
            "step": values["step"],
            "time": clock(values["train_seconds"]),
            "loss": f"{values['loss']:.5f}",
            "PSNR of batches": f"{psnr:.1f} dB",
            "rays per s": f"{values['rays_per_second']:,.0f}",
        }
        self.say("  \n".join([*(f"{name}: **{value}**" for name, value in rows.items()), self._evaluated]))
        if len(self._points) >= 2:
            x, y = np.array(self._points).T
            self._plot.data = (x, y)
            self._plot.visible = True

    def say(self, text: str) -> None:
        """Show a text in Markdown."""
        self._text.content = text

    def end(self) -> None:
        """Show that the training is finished."""
        self.say(f"**The training is finished.**\n\n{self._text.content}")
