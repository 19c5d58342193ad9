"""Display of the progress of a run: a bar on a terminal, a line every few seconds elsewhere, and nothing if quiet."""

from __future__ import annotations

import sys
import time

from tqdm import tqdm

from nerf_metal.train.lines import TrainLine
from nerf_metal.util.text import clock

LINE_EVERY_SECONDS = 5.0
"""Seconds between plain lines if there is no terminal: a log of minutes stays short, and shows that the run continues.
"""


class Progress:
    """Display of the progress of a run. Messages go to stdout, and the bar goes to stderr.

    Args:
        quiet: show nothing.
        done: fraction of the run that is done already, in [0, 1].
    """

    def __init__(self, *, quiet: bool, done: float = 0.0) -> None:
        """Open the bar if stderr is a terminal."""
        self.quiet = quiet
        self._last_line = time.monotonic()
        self._bar: tqdm | None = None
        if not quiet and sys.stderr.isatty():
            self._bar = tqdm(
                total=1.0,
                initial=done,
                dynamic_ncols=True,
                leave=False,
                bar_format="{percentage:3.0f}% |{bar}| {desc}",
                file=sys.stderr,
            )

    def __enter__(self) -> Progress:
        """Show the progress until the end of the ``with`` block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the bar."""
        self.close()

    def update(self, line: TrainLine, *, done: float, psnr: float, seconds_left: float) -> None:
        """Show a line of the record.

        Args:
            line: last line of training.
            done: fraction of the run that is done, in [0, 1].
            psnr: PSNR of the rays of the line, dB.
            seconds_left: expected seconds of training until the end.
        """
        now = time.monotonic()
        if self.quiet or (self._bar is None and now - self._last_line < LINE_EVERY_SECONDS):
            return
        speed = f"{line.rays_per_second / 1e3:.1f}k rays/s"
        text = f"loss {line.loss:.4f}  PSNR {psnr:.1f} dB  {speed}  {clock(seconds_left)} left"
        if self._bar is not None:
            self._bar.set_description_str(f"step {line.step}  {text}", refresh=False)
            self._bar.n = min(done, 1.0)
            self._bar.refresh()
        else:
            self._last_line = now
            print(f"{done:4.0%}  step {line.step}  {text}", flush=True)

    def say(self, line: str) -> None:
        """Print a line, above the bar if there is one."""
        if self.quiet:
            return
        if self._bar is not None:
            self._bar.clear()
        print(line, flush=True)
        if self._bar is not None:
            self._bar.refresh()

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
