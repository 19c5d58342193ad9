"""Stores for the pixels of many photographs: in memory, or in a scratch file."""

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
    """Pixels in memory. The system allocates the memory as pixels are written."""

    def __init__(self, pixels: int, channels: int) -> None:
        """Reserve room for ``pixels`` of ``channels`` bytes each."""
        self._rows = np.empty((pixels, channels), np.uint8)

    def write(self, first: int, rows: NDArray[np.uint8]) -> None:
        """Write pixels, uint8 ``[n, channels]``, starting at pixel ``first``."""
        self._rows[first : first + len(rows)] = rows

    def read(self, first: int, last: int) -> NDArray[np.uint8]:
        """Return a copy of the pixels from ``first`` to before ``last``: uint8 ``[last - first, channels]``."""
        return self._rows[first:last].copy()

    def take(self, at: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the pixels with the indices ``at``, int64 ``[n]``: uint8 ``[n, channels]``."""
        return self._rows.take(at, axis=0)


_READERS = 8
"""Threads that read from the disk at once. 8192 pixels that no cache holds take 530 ms by one thread, 160 ms by eight
and 120 ms with sixteen. Pixels in the system's cache take 12, 10 and 12 ms."""


class ScratchStore:
    """Pixels in a temporary file without a name, which vanishes when the process ends, however it ends.

    Each pixel is one read. A memory-mapped file would keep in memory all that was ever read, with 64 KB around each
    pixel on Linux, and unmapping takes three times as long as the reads.

    Raises:
        InputError: the disk has too little room.
    """

    def __init__(self, pixels: int, channels: int) -> None:
        """Make the file for ``pixels`` of ``channels`` bytes each. It grows as pixels are written."""
        self._bytes, self._channels = pixels * channels, channels
        if shutil.disk_usage(tempfile.gettempdir()).free < self._bytes:
            raise self._full()
        self._file = tempfile.TemporaryFile(prefix="nerf-metal-", buffering=0)  # noqa: SIM115 - open as long as this object
        weakref.finalize(self, self._file.close)
        if hasattr(os, "posix_fadvise"):  # read-ahead would read 30 times as much as needed
            os.posix_fadvise(self._file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        self._readers = ThreadPoolExecutor(_READERS)

    def write(self, first: int, rows: NDArray[np.uint8]) -> None:
        """Write pixels, uint8 ``[n, channels]``, starting at pixel ``first``.

        Raises:
            InputError: the disk is full.
        """
        data, offset = memoryview(rows.tobytes()), first * self._channels
        while len(data):
            try:
                written = os.pwrite(self._file.fileno(), data, offset)
            except OSError as error:
                raise self._full(f" ({error.strerror})") from None
            data, offset = data[written:], offset + written

    def read(self, first: int, last: int) -> NDArray[np.uint8]:
        """Return the pixels from ``first`` to before ``last``: uint8 ``[last - first, channels]``."""
        rows = np.empty((last - first, self._channels), np.uint8)
        data, offset = memoryview(rows.reshape(-1)), first * self._channels  # type: ignore[arg-type]
        while len(data):
            count = os.preadv(self._file.fileno(), [data], offset)
            data, offset = data[count:], offset + count
        return rows

    def take(self, at: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the pixels with the indices ``at``, int64 ``[n]``: uint8 ``[n, channels]``."""
        parts = np.array_split(at * self._channels, _READERS)
        found = b"".join(self._readers.map(self._read_each, parts))
        return np.frombuffer(bytearray(found), np.uint8).reshape(-1, self._channels)

    def _read_each(self, offsets: NDArray[np.int64]) -> bytes:
        """Read one pixel at each offset."""
        read, file, size = os.pread, self._file.fileno(), self._channels
        return b"".join([read(file, size, offset) for offset in offsets.tolist()])

    def _full(self, cause: str = "") -> InputError:
        """Return the error for a disk without room."""
        folder = tempfile.gettempdir()
        free = shutil.disk_usage(folder).free
        return InputError(
            f"[photos] {folder} must have {self._bytes / 1e9:.3g} GB free for the photographs, got {free / 1e9:.3g} GB"
            f"{cause}; raise --downscale or --max-memory, or set TMPDIR"
        )


Store = MemoryStore | ScratchStore
