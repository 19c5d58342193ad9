"""Standard output and standard error whose reader may leave early, as in ``nerf-metal presets | head -1``.

A write to a closed pipe ends the program quietly, with the exit code that shells give to a program ended by SIGPIPE.
Work that must be finished first asks for a call instead, with :func:`call_when_closed`: training saves a checkpoint.

SIGPIPE itself stays ignored, as Python sets it: it would also end the program when a browser leaves the viewer.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator

EXIT_CODE = 128 + signal.SIGPIPE
"""141, as shells report a program that SIGPIPE ended."""

_calls: list[Callable[[], object]] = []


@contextlib.contextmanager
def guarded_streams() -> Iterator[None]:
    """Let ``sys.stdout`` and ``sys.stderr`` survive a closed pipe while the context lasts.

    A stream that is closed from the start (``>&-``) becomes one that discards its text. Streams that are not the
    process's own, such as those that a test captures, stay as they are.

    Raises:
        SystemExit: with :data:`EXIT_CODE`, from the write that meets a closed pipe; also from the end of the context,
            which flushes what was printed last.
    """
    before = {name: getattr(sys, name) for name in ("stdout", "stderr")}
    for name, stream in before.items():
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, open until the program ends
        elif stream is getattr(sys, f"__{name}__"):
            setattr(sys, name, _guarded(stream))
    try:
        yield
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            for name, stream in before.items():
                if stream is not None:
                    setattr(sys, name, stream)


@contextlib.contextmanager
def call_when_closed(call: Callable[[], object]) -> Iterator[None]:
    """Call ``call`` when a pipe turns out to be closed, instead of ending the program. What is printed afterwards is
    discarded."""
    _calls.append(call)
    try:
        yield
    finally:
        _calls.remove(call)


class _Descriptor(io.FileIO):
    """A file descriptor that becomes ``/dev/null`` when its pipe is closed."""

    def write(self, data) -> int:  # type: ignore[no-untyped-def]
        try:
            return super().write(data)
        except BrokenPipeError:
            # Python flushes the stream again when it ends: the descriptor must accept that (Python's documentation of
            # the module signal, "Note on SIGPIPE").
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            if not _calls:
                raise SystemExit(EXIT_CODE) from None
            for call in _calls:
                call()
            return len(data)


def _guarded(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    """Return a text stream on the same descriptor, with the same encoding and buffering, that survives a closed
    pipe."""
    stream.flush()
    raw = _Descriptor(stream.fileno(), "w", closefd=False)
    return io.TextIOWrapper(
        raw if stream.write_through else io.BufferedWriter(raw),  # python -u has no buffer
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
