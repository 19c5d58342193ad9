"""Reads of random rows of a table by random_reads.cpp: the limit of this machine for a hash grid."""

from __future__ import annotations

import ctypes
import functools
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from benchmarks.race import Call

_TILE = 256  # least number of reads of random_reads.cpp
_SOURCE = Path(__file__).with_suffix(".cpp")


def compiler() -> str | None:
    """Return the path of the C++ compiler, or None if there is none."""
    return shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")


@functools.cache
def _library() -> ctypes.CDLL:
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/random_reads.so"
        command = [str(compiler()), "-O3", "-march=native", "-shared", "-fPIC", str(_SOURCE), "-o", path]
        subprocess.run(command, check=True)
        library = ctypes.CDLL(path)  # stays loaded when the file is deleted
    library.random_reads.argtypes = [ctypes.c_void_p, *[ctypes.c_uint32] * 4]
    library.random_reads.restype = ctypes.c_float
    return library


def random_reads(table: torch.Tensor, parts: list[tuple[int, int]], count: int) -> Call:
    """Make a call that reads ``count`` random rows of each part of a table, one part after the other.

    It uses as many threads as torch, and returns an empty list.

    Args:
        table: float32 ``[rows, F]`` with ``F`` 1, 2, 4 or 8.
        parts: first row and number of rows of each part. Rows are read from the greatest power of two of them.
        count: number of rows to read from each part.
    """
    read, threads = _library().random_reads, torch.get_num_threads()
    pool = ThreadPoolExecutor(threads)
    features, tiles = table.shape[1], count // threads // _TILE
    rows = [(table[first:].data_ptr(), 2 ** (size.bit_length() - 1) - 1) for first, size in parts]

    def share(thread: int) -> None:
        for address, last in rows:
            read(address, last, features, tiles, thread * 2**31)  # ctypes releases the GIL

    def call() -> list[torch.Tensor]:
        list(pool.map(share, range(threads)))
        return []

    return call
