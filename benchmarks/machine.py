"""The machine of the benchmarks: processor, threads, versions, and how fast it copies memory."""

from __future__ import annotations

import functools
import os
import platform
import time

import torch

from nerf_metal import kernels
from nerf_metal.util.machine import processor

_COPY_BYTES = 256 << 20  # eight times the caches of most machines, small enough for 1 GB of memory
_COPIES = 7
_QUIET = 0.5  # load


def clock() -> float:
    """Return the time in seconds. With one thread it is processor time, which does not grow while others run."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


@functools.cache
def copy_bandwidth() -> float:
    """Measure the bytes per second of the best copy of a large array, read and written together.

    torch copies with as many threads as the kernels get. Cache lines that a store first reads do not count, neither
    here nor in the bytes of the kernels.
    """
    source = torch.zeros(_COPY_BYTES, dtype=torch.uint8)
    target = torch.zeros_like(source)  # zeros, not empty: the pages must exist before the clock runs
    best = float("inf")
    for _ in range(_COPIES):
        start = clock()
        target.copy_(source)
        best = min(best, clock() - start)
    return 2 * _COPY_BYTES / best


def load() -> float:
    """Return the mean number of running processes in the last minute; 0 if the system does not count them."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def describe(load_before: float) -> list[str]:
    """Return the lines for the head of the tables.

    Args:
        load_before: the load before the first race, which is that of other processes.
    """
    threads = torch.get_num_threads()
    time = "processor time" if threads == 1 else "wall time"
    name = processor() or platform.processor() or platform.machine()
    lines = [
        f"{name}, {os.cpu_count()} logical cores, load {load_before:.1f} before; "
        f"{threads} thread{'s' if threads > 1 else ''} a side, {time}",
        f"host kernels {kernels.host_isa()}, torch {torch.__version__}, Python {platform.python_version()}, "
        f"copies {copy_bandwidth() / 1e9:.1f} GB/s (256 MB, read + write); freed memory is kept",
    ]
    if load_before > _QUIET and threads > 1:
        lines.append("The machine was busy. Torch's sides suffer from that more than the host's: the ratios flatter.")
        lines.append("OMP_NUM_THREADS=1 compares processor time instead, which is steadier.")
    return lines
