"""Pixels of many photographs one after the other, in memory or in a scratch file."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from nerf_metal.util.errors import InputError


class MemoryStore:
    """Pixels in memory; the system gives it as they are written."""

    def __init__(self, pixels: int, channels: int) -> None:
        """Make room."""
        self._rows = np.empty((pixels, channels), np.uint8)

    def write(self, first: int, rows: NDArray[np.uint8]) -> None:
        """Put pixels ``[n, channels]`` from pixel ``first`` on."""
        self._rows[first : first + len(rows)] = rows

    def read(self, first: int, last: int) -> NDArray[np.uint8]:
        """A copy of the pixels from ``first`` to before ``last``."""
        return self._rows[first:last].copy()

    def take(self, at: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The pixels ``at [n]``."""
        return self._rows.take(at, axis=0)


_READERS = 8
"""Threads that read at once, where the disk has to be waited for: 8192 pixels that no cache holds take 530 ms by one,
160 by eight, 120 by sixteen; those that the system holds 12, 10 and 12."""


class ScratchStore:
    """Pixels in a file without a name, which vanishes with the process however it ends.

    Every pixel is a read of its own. Of a mapped file the process would hold all that was ever read, with 64 KB around
    each pixel on Linux, and unmapping that again takes three times as long as the reads.

    Raises:
        InputError: the disk has no room.
    """

    def __init__(self, pixels: int, channels: int) -> None:
        """Make the file; it takes room as pixels are written."""
        self._bytes, self._channels = pixels * channels, channels
        if shutil.disk_usage(tempfile.gettempdir()).free < self._bytes:
            raise self._full()
        self._file = tempfile.TemporaryFile(prefix="nerf-metal-", buffering=0)  # noqa: SIM115 - open as long as this
        weakref.finalize(self, self._file.close)
        if hasattr(os, "posix_fadvise"):  # reading ahead would read 30 times what is asked for
            os.posix_fadvise(self._file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        self._readers = ThreadPoolExecutor(_READERS)

    def write(self, first: int, rows: NDArray[np.uint8]) -> None:
        """As :meth:`MemoryStore.write`."""
        data, offset = memoryview(rows.tobytes()), first * self._channels
        while len(data):
            try:
                written = os.pwrite(self._file.fileno(), data, offset)
            except OSError as error:
                raise self._full(f" ({error.strerror})") from None
            data, offset = data[written:], offset + written

    def read(self, first: int, last: int) -> NDArray[np.uint8]:
        """As :meth:`MemoryStore.read`."""
        rows = np.empty((last - first, self._channels), np.uint8)
        data, offset = memoryview(rows.reshape(-1)), first * self._channels  # type: ignore[arg-type]
        while len(data):
            count = os.preadv(self._file.fileno(), [data], offset)
            data, offset = data[count:], offset + count
        return rows

    def take(self, at: NDArray[np.int64]) -> NDArray[np.uint8]:
        """As :meth:`MemoryStore.take`."""
        parts = np.array_split(at * self._channels, _READERS)
        found = b"".join(self._readers.map(self._read_each, parts))
        return np.frombuffer(bytearray(found), np.uint8).reshape(-1, self._channels)

    def _read_each(self, offsets: NDArray[np.int64]) -> bytes:
        read, file, size = os.pread, self._file.fileno(), self._channels
        return b"".join([read(file, size, offset) for offset in offsets.tolist()])

    def _full(self, cause: str = "") -> InputError:
        folder = tempfile.gettempdir()
        free = shutil.disk_usage(folder).free
        return InputError(
            f"[photos] {folder} must have {self._bytes / 1e9:.3g} GB free for the photographs, got {free / 1e9:.3g} GB"
            f"{cause}; raise --downscale or --max-memory, or set TMPDIR"
        )


Store = MemoryStore | ScratchStore
