"""Pixels of many photographs one after the other, in memory or in a scratch file."""

from __future__ import annotations

import mmap
import os
import shutil
import tempfile
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from nerf_metal.errors import InputError


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


RESIDENT_BYTES = 512 << 20
"""Of a scratch file that stay mapped: a step's pixels, each with its surroundings."""
_AROUND = 1 << 16
"""Bytes that one read may map: Linux maps 16 pages around a fault if it has them; a Mac's page is a quarter of this."""
_READERS = 8
"""Threads that read at once where the disk has to be waited for: an SSD answers that many as quickly as one."""


class ScratchStore:
    """Pixels in a file without a name, which vanishes with the process however it ends. What has been read is given
    back to the system before it is more than `RESIDENT_BYTES`; the system's cache keeps what it has room for.

    Raises:
        InputError: the disk has no room.
    """

    def __init__(self, pixels: int, channels: int) -> None:
        """Make the file; it takes room as pixels are written."""
        self._bytes = pixels * channels
        self._check_room(shutil.disk_usage(tempfile.gettempdir()).free >= self._bytes)
        self._file = tempfile.TemporaryFile(prefix="nerf-metal-", buffering=0)  # noqa: SIM115 - open as long as the store
        weakref.finalize(self, self._file.close)
        self._file.truncate(self._bytes)
        self._map = mmap.mmap(self._file.fileno(), self._bytes, access=mmap.ACCESS_READ)
        self._advise("MADV_RANDOM")  # reading ahead would read 30 times what is asked for
        self._rows = np.frombuffer(self._map, np.uint8).reshape(pixels, channels)
        self._mapped = 0
        self._readers = ThreadPoolExecutor(_READERS)

    def write(self, first: int, rows: NDArray[np.uint8]) -> None:
        """As :meth:`MemoryStore.write`. Not through the map: there a full disk would end the process."""
        data, offset = memoryview(rows.tobytes()), first * rows.shape[1]
        while len(data):
            try:
                written = os.pwrite(self._file.fileno(), data, offset)
            except OSError as error:
                self._check_room(False, error)
            data, offset = data[written:], offset + written

    def read(self, first: int, last: int) -> NDArray[np.uint8]:
        """As :meth:`MemoryStore.read`."""
        rows = self._rows[first:last].copy()
        self._account(rows.nbytes)
        return rows

    def take(self, at: NDArray[np.int64]) -> NDArray[np.uint8]:
        """As :meth:`MemoryStore.take`."""
        most = RESIDENT_BYTES // _AROUND
        found: list[NDArray[np.uint8]] = []
        for start in range(0, max(len(at), 1), most):
            parts = np.array_split(at[start : start + most], _READERS)
            found += self._readers.map(self._rows_at, parts)
            self._account(_AROUND * sum(map(len, parts)))
        return np.concatenate(found)

    def _rows_at(self, at: NDArray[np.int64]) -> NDArray[np.uint8]:
        return self._rows.take(at, axis=0)

    def _account(self, size: int) -> None:
        self._mapped += size
        if self._mapped >= RESIDENT_BYTES:
            self._advise("MADV_DONTNEED")
            self._mapped = 0

    def _advise(self, option: str) -> None:
        if hasattr(mmap, option):
            self._map.madvise(getattr(mmap, option))

    def _check_room(self, enough: bool, error: OSError | None = None) -> None:
        if not enough:
            folder = tempfile.gettempdir()
            free, cause = shutil.disk_usage(folder).free, f" ({error.strerror})" if error else ""
            raise InputError(
                f"[photos] {folder} must have {self._bytes / 1e9:.3g} GB free for the photographs, got "
                f"{free / 1e9:.3g} GB{cause}; raise --downscale or --max-memory, or set TMPDIR"
            )


Store = MemoryStore | ScratchStore
