"""Reads of random rows of a table, by random_reads.cpp: how fast this machine gives what a hash grid asks for."""

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

_TILE = 256  # reads that random_reads.cpp makes at least
_SOURCE = Path(__file__).with_suffix(".cpp")


def compiler() -> str | None:
    """The C++ compiler, where there is one."""
    return shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")


@functools.cache
def _library() -> ctypes.CDLL:
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/random_reads.so"
        command = [str(compiler()), "-O3", "-march=native", "-shared", "-fPIC", str(_SOURCE), "-o", path]
        subprocess.run(command, check=True)
        library = ctypes.CDLL(path)  # stays when its file is gone
    library.random_reads.argtypes = [ctypes.c_void_p, *[ctypes.c_uint32] * 4]
    library.random_reads.restype = ctypes.c_float
    return library


def random_reads(table: torch.Tensor, parts: list[tuple[int, int]], count: int) -> Call:
    """A call that reads ``count`` random rows of each part of a table, one part after the other, shared among as many
    threads as torch has. They have no result.

    Args:
        table: ``[rows, F]`` float32, ``F`` 1, 2, 4 or 8.
        parts: first row and rows; of these the greatest power of two is read from.
        count: rows to read of each part.
    """
    read, threads = _library().random_reads, torch.get_num_threads()
    pool = ThreadPoolExecutor(threads)
    features, tiles = table.shape[1], count // threads // _TILE
    rows = [(table[first:].data_ptr(), 2 ** (size.bit_length() - 1) - 1) for first, size in parts]

    def share(thread: int) -> None:
        for address, last in rows:
            read(address, last, features, tiles, thread * 2**31)  # ctypes lets other threads run meanwhile

    def call() -> list[torch.Tensor]:
        list(pool.map(share, range(threads)))
        return []

    return call
