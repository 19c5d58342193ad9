"""Clean end of a run on Ctrl-C and on a request to terminate."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any


class StopRequest:
    """A context in which SIGINT and SIGTERM ask the run to stop instead of ending the program.

    The first signal sets :attr:`signal`. A second signal ends the program as usual. Handlers cannot be set outside of
    the main thread; the context changes nothing there.

    Attributes:
        signal: number of the signal that was received; None before.
    """

    def __init__(self) -> None:
        """Start without a request."""
        self.signal: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        """Set the handlers of both signals."""
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._before[number] = signal.signal(number, self._handle)
            except ValueError:
                break
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Restore the previous handlers."""
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

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
