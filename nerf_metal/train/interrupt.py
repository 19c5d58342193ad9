"""Ending a run cleanly on Ctrl-C, on termination, and when the reader of its output has left."""

from __future__ import annotations

import contextlib
import signal
from types import FrameType, TracebackType
from typing import Any

from nerf_metal.util.pipes import call_when_closed


class StopRequest:
    """A request to stop. While entered, SIGINT, SIGTERM and a closed output pipe (as SIGPIPE) set :attr:`signal`
    instead of ending the program.

    A second signal acts as usual, for the impatient. Outside the main thread, where Python sets no signal handlers,
    signals act as usual too.
    """

    def __init__(self) -> None:
        """Start without a request."""
        self.signal: int | None = None
        self._before: dict[int, Any] = {}
        self._pipes = contextlib.ExitStack()

    def __enter__(self) -> StopRequest:
        """Take over the signals."""
        self._pipes.enter_context(call_when_closed(self._output_closed))
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._before[number] = signal.signal(number, self._handle)
            except ValueError:
                break
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Restore the signal handlers."""
        self._pipes.close()
        self._restore()

    def __call__(self) -> bool:
        """Return whether the run should stop."""
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """The exit code of the program: 0, or 128 plus the number of the signal, as shells define it."""
        return 0 if self.signal is None else 128 + self.signal

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        self._restore()

    def _output_closed(self) -> None:
        if self.signal is None:
            self.signal = signal.SIGPIPE

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
