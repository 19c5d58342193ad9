"""No arguments make a launch leave its buffers: it runs inside them, or Python gets an exception."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import weakref
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nerf_metal import _C
from tests.kernels.launches import (
    DTYPES,
    KERNELS,
    STRUCTS,
    Described,
    evaluate,
    grid_of,
    launch,
    needed,
    pack,
    small_params,
)
from tests.kernels.libraries import ROOT

pytestmark = pytest.mark.host_kernels

EXAMPLES = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
GUARD = 64  # bytes before and after each buffer
CODES = {name: code for code, name in enumerate(DTYPES)}
COUNTS = st.sampled_from([0, 1, 2, 31, 33, 2**16, 2**31 - 1, 2**31, 2**32 - 1])


class Arena:
    """A buffer between two guards."""

    def __init__(self, bytes_: int, random: np.random.Generator) -> None:
        self.memory = np.full(bytes_ + 2 * GUARD, 0xA5, np.uint8)
        self.memory[GUARD : GUARD + bytes_] = np.frombuffer(random.bytes(bytes_), np.uint8)
        self.address = self.memory.ctypes.data + GUARD
        self.size = bytes_

    def untouched(self) -> bool:
        """Whether both guards are as they were."""
        return bool((self.memory[:GUARD] == 0xA5).all() and (self.memory[GUARD + self.size :] == 0xA5).all())


def buffers_of(kernel: str, counts: list[int], random: np.random.Generator) -> tuple[list[Arena], list[Described]]:
    """Arenas of exactly these counts, and their descriptions."""
    infos = KERNELS[kernel].buffers
    sizes = [np.dtype(DTYPES[b.dtype]).itemsize for b in infos]
    arenas = [Arena(count * size, random) for count, size in zip(counts, sizes, strict=True)]
    described: list[Described] = [
        (arena.address, count, CODES[b.dtype]) for arena, count, b in zip(arenas, counts, infos, strict=True)
    ]
    return arenas, described


def attempt(kernel: str, buffers: list[Described], params: bytes, grid, group) -> bool:
    """Whether it ran; any exception but the two a caller is promised fails the test."""
    try:
        launch(kernel, buffers, params, grid, group)
    except (ValueError, TypeError) as error:
        assert str(error).startswith(f"[{kernel}] ")
        assert "\n" not in str(error)
        return False
    return True


def test_expressions_are_evaluated_as_c_does() -> None:
    values = {"a": 2, "b": 0, "n": 5}
    for text, expected in [("a ? n : 3", 5), ("b ? n : 3", 3), ("(a - 1) * n + 2", 7), ("b * (a ? 1 : 2), ", 0)]:
        assert evaluate(text.rstrip(", "), values) == expected


@pytest.mark.parametrize("kernel", sorted(KERNELS))
@EXAMPLES
@given(seed=st.integers(0, 2**32 - 1))
def test_exact_buffers_are_enough_and_one_less_is_refused(kernel, seed) -> None:
    random = np.random.default_rng(seed)
    params = small_params(kernel, random)
    grid = grid_of(kernel, params, random)
    counts = needed(kernel, params)
    arenas, described = buffers_of(kernel, counts, random)
    assert attempt(kernel, described, pack(kernel, params), grid, (32, 1, 1))
    assert all(arena.untouched() for arena in arenas)
    full = [i for i, count in enumerate(counts) if count > 0]
    if full and 0 not in grid:
        short = int(random.choice(full))
        address, count, code = described[short]
        name = KERNELS[kernel].buffers[short].name
        before = [arena.memory.copy() for arena in arenas]
        for worse, words in [
            ((address, count - 1, code), f"{name} must have at least {count} elements, got {count - 1}"),
            (None, f"{name} must be given, got None"),
        ]:
            with pytest.raises(ValueError) as caught:
                launch(
                    kernel, [worse if i == short else b for i, b in enumerate(described)], pack(kernel, params), grid
                )
            assert str(caught.value) == f"[{kernel}] {words}"
        assert all((arena.memory == old).all() for arena, old in zip(arenas, before, strict=True))


@pytest.mark.parametrize("kernel", sorted(KERNELS))
@EXAMPLES
@given(data=st.data())
def test_any_arguments_run_inside_the_buffers_or_are_refused(kernel, data) -> None:
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    infos = KERNELS[kernel].buffers
    number = {"float": st.floats(width=32), "uint": COUNTS, "int": COUNTS}
    params = {name: data.draw(number[kind], label=name) for name, kind in STRUCTS[KERNELS[kernel].params]}
    counts = [data.draw(st.sampled_from([0, 1, 63, 64, 1000, 4096])) for _ in infos]
    arenas, described = buffers_of(kernel, counts, random)
    for i, (arena, buffer) in enumerate(zip(arenas, described, strict=True)):
        change = data.draw(st.sampled_from(["none"] * 12 + ["absent", "dtype", "shifted"]))
        if change == "absent":
            described[i] = None
        elif change == "dtype":
            described[i] = (arena.address, counts[i], data.draw(st.integers(-3, 300)))
        elif change == "shifted" and counts[i]:
            assert buffer is not None
            described[i] = (arena.address + 1, counts[i] - 1, buffer[2])
    if data.draw(st.integers(0, 9)) == 0:
        described = described[:-1] if data.draw(st.booleans()) else [*described, described[0]]
    packed = pack(kernel, params)
    if data.draw(st.integers(0, 9)) == 0:
        packed = packed[: data.draw(st.integers(0, len(packed)))]
    axis = st.sampled_from([0, 1, 2, 31, 32, 64])
    grid = (data.draw(axis), data.draw(axis), data.draw(st.sampled_from([0, 1, 2])))
    group_axis = st.sampled_from([0, 1, 16, 32, 32, 32, 64, 1024, 2**31, 2**32 - 1])
    group = (
        data.draw(group_axis),
        data.draw(st.sampled_from([0, 1, 1, 1, 32])),
        data.draw(st.sampled_from([1, 1, 33])),
    )
    attempt(kernel, described, packed, grid, group)
    assert all(arena.untouched() for arena in arenas)


@pytest.mark.parametrize("isa", _C.host_isas())
def test_no_element_past_an_end_is_touched(isa) -> None:
    """Sentinels show writes; pages that cannot be touched show reads too, as a crash of another process."""
    result = subprocess.run(
        [sys.executable, "-m", "tests.kernels.guard_pages", "7"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"NERF_METAL_HOST_ISA": isa},
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) == sum(25 if k.collective else 120 for k in KERNELS.values())


def strictly(*arguments) -> None:
    _C.launch_strict(*arguments, "forward", 0)


@pytest.mark.parametrize("run", [functools.partial(_C.launch_host, threads=1), strictly], ids=["host", "strict"])
def test_tensors_live_as_long_as_their_launch(run: Callable[..., None]) -> None:
    """Whoever else holds the caller's list may empty it, another thread too, since Python's lock is given up."""

    class Emptying:
        def __index__(self) -> int:
            buffers.clear()
            return 64

    out = torch.zeros(64, dtype=torch.int32)
    buffers = [torch.ones(32 * 64), torch.zeros(1), out]
    when_freed: list[int] = []
    weakref.finalize(buffers[0], lambda: when_freed.append(int(out[-1])))
    run("occupancy_pack_f32", buffers, {"n_words": 64}, (Emptying(),), (32,))
    assert when_freed == [-1]  # its result, which was not there before
