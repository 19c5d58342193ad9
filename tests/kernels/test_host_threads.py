"""The host backend's grid and threads: every thread of the grid once, whatever the number of workers and callers."""

from __future__ import annotations

import os
import struct
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from nerf_metal import ops

pytestmark = pytest.mark.host_kernels


@pytest.mark.parametrize("threads", [0, 1, 2, 3, 8])
@pytest.mark.parametrize("n", [0, 1, 63, 64, 65, 127, 1000, 4099])
def test_each_thread_of_the_grid_runs_once(host, n, threads) -> None:
    times = np.zeros(n + 64, np.int32)
    host("language_count", [times], struct.pack("I", n), (n, 1, 1), threads=threads)
    assert (times[:n] == 1).all()
    assert not times[n:].any()


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (64, 64), (3, 1000), (1000, 3)])
def test_places_in_a_plane(host, size, threads) -> None:
    out = np.full((size[1], size[0], 2), -1, np.int32)
    host("language_plane", [out], struct.pack("3I", *size, 1), (*size, 1), threads=threads)
    y, x = np.indices(size[::-1])
    assert np.array_equal(out, np.stack([x, y], -1))


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("size", [(1, 1, 1), (5, 4, 3), (3, 17, 11), (100, 1, 9)])
def test_places_in_a_box(host, size, threads) -> None:
    out = np.full((*size[::-1], 3), -1, np.int32)
    host("language_box", [out], struct.pack("3I", *size), size, threads=threads)
    z, y, x = np.indices(size[::-1])
    assert np.array_equal(out, np.stack([x, y, z], -1))


def composite(rays: int, seed: int) -> list[torch.Tensor]:
    """A composite with its gradients."""
    generator = torch.Generator().manual_seed(seed)
    edges = torch.rand(rays, 41, generator=generator).sort().values
    sigmas = (torch.rand(rays, 40, generator=generator) * 9).requires_grad_()
    rgbs = torch.rand(rays, 40, 3, generator=generator).requires_grad_()
    out = ops.composite_rays(edges[:, :-1], edges[:, 1:], rgbs, sigmas, backend="host")
    return [*(o.detach() for o in out), *torch.autograd.grad(out.rgb.sum() + out.depth.sum(), [sigmas, rgbs])]


@pytest.fixture
def torch_threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_thread_count_changes_no_bit(torch_threads) -> None:
    torch_threads(1)
    alone = composite(333, 0)
    for threads in (2, 3, 8):
        torch_threads(threads)
        assert all(torch.equal(a, b) for a, b in zip(alone, composite(333, 0), strict=True))


def test_launches_from_several_python_threads(torch_threads) -> None:
    """One caller has the workers, the others run alone; nobody gets another's numbers."""
    torch_threads(3)
    expected = {seed: composite(200, seed) for seed in range(4)}
    wrong: list[int] = []

    def work(seed: int) -> None:
        torch.set_num_threads(3)  # of this thread
        for _ in range(25):
            if not all(torch.equal(a, b) for a, b in zip(expected[seed], composite(200, seed), strict=True)):
                wrong.append(seed)

    callers = [threading.Thread(target=work, args=(seed,)) for seed in expected]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


@pytest.mark.parametrize("threads", [1, 4])
def test_atomics_lose_nothing(host, threads) -> None:
    n = 4096  # the sum of all i is exact in float32
    sums, total, ones = np.zeros(2, np.int32), np.zeros(1, np.float32), np.zeros(1, np.int32)
    before = np.full(n, -1, np.int32)
    host("language_atomics", [sums, total, before, ones], struct.pack("I", n), (n, 1, 1), threads=threads)
    assert sums.tolist() == [n * (n - 1) // 2, n - 1]
    assert total.tolist() == [n * (n - 1) / 2]
    assert ones.tolist() == [n]
    assert sorted(before.tolist()) == list(range(n))


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two processors")
def test_a_launch_of_long_threads_shares_two(host) -> None:
    """A grid of two waits for itself on one thread, unless each of the two is said to be long work."""
    for long_threads in (False, True):
        arrived, met = np.zeros(1, np.int32), np.zeros(2, np.int32)
        host("language_meet", [arrived, met], struct.pack("I", 2), (2, 1, 1), threads=2, long_threads=long_threads)
        assert met.tolist() == ([1, 1] if long_threads else [0, 1])


def test_many_short_launches_in_a_row(host) -> None:
    """Workers that wake late must not take part in the next launch, or in one that is over."""
    times = np.zeros(64, np.int32)
    for i in range(3000):
        host("language_count", [times], struct.pack("I", 64), (64, 1, 1), threads=2 + i % 3)
    assert (times == 3000).all()


def test_small_numbers_are_the_callers_own_again(host) -> None:
    """Kernels flush results below the normal numbers; what calls them must not from then on."""
    n = 1000
    host("language_count", [np.zeros(n, np.int32)], struct.pack("I", n), (n, 1, 1), threads=1)
    host("language_count", [np.zeros(n, np.int32)], struct.pack("I", n), (n, 1, 1), threads=3)
    assert np.float32(1e-38) * np.float32(0.5) > 0
    assert (torch.full((8,), 1e-38) * 0.5 > 0).all()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_fork_after_a_launch_launches(host) -> None:
    """The child has the memory of the workers but not the workers."""
    n = 5000
    times = np.zeros(n, np.int32)
    host("language_count", [times], struct.pack("I", n), (n, 1, 1), threads=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of forks beside threads: that is the test
        child = os.fork()
    if child == 0:
        host("language_count", [times], struct.pack("I", n), (n, 1, 1), threads=3)
        tasks = Path("/proc/self/task")  # where there is one it must show workers of the child's own
        alone = tasks.exists() and len(list(tasks.iterdir())) < 3
        os._exit(0 if (times == 2).all() and not alone else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    host("language_count", [times], struct.pack("I", n), (n, 1, 1), threads=3)  # and the parent still has its own
    assert (times == 2).all()


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="needs Linux's processor affinity")
def test_workers_that_moved_may_run_everywhere(host) -> None:
    """A worker woken on its caller's processor leaves it; what it may run on must not stay cut."""
    allowed = os.sched_getaffinity(0)
    n = 100_000
    for _ in range(40):  # a scheduler wakes about every second one there
        time.sleep(0.002)  # long enough for the workers to sleep
        host("language_count", [np.zeros(n, np.int32)], struct.pack("I", n), (n, 1, 1), threads=2)
    threads = [int(name) for name in os.listdir("/proc/self/task")]
    assert len(threads) > 1
    assert all(os.sched_getaffinity(thread) == allowed for thread in threads)
