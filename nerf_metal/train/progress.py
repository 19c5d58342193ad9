"""What a person sees while training: a bar on a terminal, a line now and then elsewhere, nothing if quiet."""

from __future__ import annotations

import sys
import time

from tqdm import tqdm

from nerf_metal.util.text import clock

LINE_EVERY_SECONDS = 5.0
"""Between plain lines where there is no terminal: a log of minutes stays readable, and one sees that it
goes on."""


class Progress:
    """Shows training. Messages go to stdout, the bar to stderr.

    Args:
        quiet: show nothing.
        done: part of the run that is done already, in [0, 1].
    """

    def __init__(self, *, quiet: bool, done: float = 0.0) -> None:
        """Open the bar where there is a terminal."""
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

    def update(
        self,
        *,
        done: float,
        step: int,
        loss: float,
        psnr: float,
        rays_per_second: float,
        seconds_left: float | None,
    ) -> None:
        """Show the state: ``done`` in [0, 1], the batch's loss and PSNR (dB), rays/s, seconds left if
        known."""
        now = time.monotonic()
        if self.quiet or (self._bar is None and now - self._last_line < LINE_EVERY_SECONDS):
            return
        left = "" if seconds_left is None else f"  {clock(seconds_left)} left"
        text = f"loss {loss:.4f}  PSNR {psnr:.1f} dB  {rays_per_second / 1e3:.1f}k rays/s{left}"
        if self._bar is not None:
            self._bar.set_description_str(f"step {step}  {text}", refresh=False)
            self._bar.n = min(done, 1.0)
            self._bar.refresh()
        else:
            self._last_line = now
            print(f"{done:4.0%}  step {step}  {text}", flush=True)

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
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
