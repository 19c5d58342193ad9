"""Strict mode names every misuse of SIMD-groups and threadgroups, in any order of the lanes, and goes on after."""

from __future__ import annotations

import re
import struct

import numpy as np
import pytest

from tests.kernels.libraries import SHADERS, without_barriers

pytestmark = pytest.mark.strict
ORDERS = [("forward", 0), ("reversed", 0), *(("shuffled", seed) for seed in range(4))]


def line_of(mark: str) -> int:
    """The line of wrong.metal with this mark."""
    lines = (SHADERS / "wrong.metal").read_text().splitlines()
    return next(i for i, line in enumerate(lines, 1) if line.endswith(f"// mark: {mark}"))


def lane(low: int, high: int) -> str:
    """A pattern for the thread numbers of a range."""
    return "(" + "|".join(str(i) for i in range(low, high)) + ")"


WRONG = {
    "wrong_divergent_if": lambda: (
        rf"divergent collective: thread {lane(0, 16)} is at simd_sum on line {line_of('divergent')}, "
        rf"thread {lane(16, 32)} has left the kernel"
    ),
    "wrong_two_branches": lambda: (
        rf"divergent collective: thread {lane(0, 16)} is at simd_sum on line {line_of('low')}, "
        rf"thread {lane(16, 32)} is at simd_sum on line {line_of('high')}"
    ),
    "wrong_early_return": lambda: (
        rf"divergent collective: thread {lane(0, 100)} is at threadgroup_barrier on line {line_of('barrier')}, "
        rf"thread {lane(100, 128)} has left the kernel"
    ),
    "wrong_mixed": lambda: (
        rf"divergent collective: thread \d+ is at (threadgroup_barrier on line {line_of('inner') + 2}|"
        rf"simd_sum on line {line_of('inner')}), thread \d+ is at "
    ),
    "wrong_unwritten": lambda: (
        r"thread (?P<a>\d+) reads cell\[(?P=a)\] of threadgroup memory, which nobody has written"
    ),
    "wrong_write_write": lambda: r"thread \d+ writes cell\[\d+\], which thread \d+ has written since the last barrier",
    "wrong_small_barrier": lambda: (
        r"thread \d+ reads cell\[\d+\], which thread \d+ has written since the last barrier"
        r"|thread \d+ reads cell\[\d+\] of threadgroup memory, which nobody has written"
    ),
    "wrong_read_write": lambda: (
        r"thread 0 writes cell\[0\], which thread 40 has read since the last barrier"
        r"|thread 40 reads cell\[0\], which thread 0 has written since the last barrier"
    ),
    "wrong_range": lambda: r"thread 127 uses cell\[128\], but the array has 128 elements",
    "wrong_memory": lambda: r"needs more than 32768 bytes of threadgroup memory at (more|all)",
}


def test_every_wrong_shader_has_its_message() -> None:
    names = re.findall(r"^kernel void (\w+)\(", (SHADERS / "wrong.metal").read_text(), re.M)
    assert sorted(names) == sorted(WRONG)


def check_right(strict) -> None:
    """The executor still runs a launch that is right."""
    x, y = np.arange(256, dtype=np.float32), np.zeros(256, np.float32)
    strict("right_rotate_f32", [x, y], struct.pack("2I", 256, 3), (256, 1, 1))
    assert np.array_equal(y.reshape(2, 128), np.roll(x.reshape(2, 128), -6, axis=1))


@pytest.mark.parametrize(("order", "seed"), ORDERS)
@pytest.mark.parametrize("kernel", sorted(WRONG))
def test_wrong_kernel_is_reported(strict, kernel, order, seed) -> None:
    y = np.zeros(128, np.float32)
    with pytest.raises(RuntimeError) as caught:
        strict(kernel, [y], struct.pack("I", 128), (128, 1, 1), order=order, seed=seed)
    text = str(caught.value)
    assert re.fullmatch(rf"\[{kernel}\] .+", text)
    assert re.search(WRONG[kernel](), text), text
    check_right(strict)


def mutants() -> list[str]:
    """Every right kernel with one barrier less."""
    return re.findall(r"^kernel void (\w+)\(", without_barriers((SHADERS / "right.metal").read_text()), re.M)


def test_every_barrier_of_the_right_kernels_has_its_mutant() -> None:
    text = (SHADERS / "right.metal").read_text()
    assert len(mutants()) == len(re.findall(r"_barrier\(", text)) == 7


@pytest.mark.parametrize(("order", "seed"), ORDERS)
@pytest.mark.parametrize("kernel", mutants())
def test_missing_barrier_is_reported(strict, kernel, order, seed) -> None:
    x, y = np.ones(128, np.float32), np.zeros(128, np.float32)
    params = struct.pack("2I", 128, 37) if "rotate" in kernel else struct.pack("I", 128)
    race = r"(since the last barrier|which nobody has written)"
    with pytest.raises(RuntimeError, match=rf"^\[{kernel}\] thread \d+ (reads|writes) \w+\[\d+\].*{race}$"):
        strict(kernel, [x, y], params, (128, 1, 1), order=order, seed=seed)
    check_right(strict)


def test_unknown_order(strict) -> None:
    x = np.zeros(128, np.float32)
    with pytest.raises(ValueError, match="order must be forward, reversed or shuffled, got 'upwards'"):
        strict("right_tree_f32", [x, x], struct.pack("I", 128), (128, 1, 1), order="upwards")


def test_host_refuses_kernels_with_collectives(host) -> None:
    x = np.zeros(128, np.float32)
    with pytest.raises(ValueError, match=r"\[right_tree_f32\] uses SIMD-group features, .*use its plain twin"):
        host("right_tree_f32", [x, x], struct.pack("I", 128), (128, 1, 1))
