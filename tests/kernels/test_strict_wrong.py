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
    """The line with this mark, in whichever file it stands."""
    files = [path.read_text().splitlines() for path in SHADERS.glob("wrong*.metal")]
    (found,) = [i for lines in files for i, line in enumerate(lines, 1) if line.endswith(f"// mark: {mark}")]
    return found


def lane(low: int, high: int) -> str:
    """A pattern for the thread numbers of a range."""
    return "(" + "|".join(str(i) for i in range(low, high)) + ")"


def race(who: str, does: str, what: str, line: int, other: str, has: str, other_line: int) -> str:
    """A pattern for an access that nothing orders after an earlier one."""
    return rf"{who} {does} {what} on line {line}, which {other} has {has} on line {other_line} since the last barrier$"


THREAD = r"thread \d+"
GROUP = r"the SIMD-group of thread (0|32|64|96)"

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
    "wrong_loop_of_lanes": lambda: (
        rf"divergent collective: thread {lane(0, 8)} is at simd_sum on line {line_of('loop')}, "
        rf"thread {lane(8, 32)} has left the kernel"
    ),
    "wrong_broadcast": lambda: (
        rf"simd_broadcast on line {line_of('own lane')} has other arguments in thread (1|33|65|97) "
        r"than in thread (0|32|64|96)"
    ),
    "wrong_shuffle": lambda: (
        rf"simd_shuffle_down on line {line_of('own distance')} has other arguments in thread (1|33|65|97) "
        r"than in thread (0|32|64|96)"
    ),
    "wrong_mixed": lambda: (
        rf"divergent collective: thread \d+ is at (threadgroup_barrier on line {line_of('inner') + 2}|"
        rf"simd_sum on line {line_of('inner')}), thread \d+ is at "
    ),
    "wrong_unwritten": lambda: (
        rf"thread (?P<a>\d+) reads cell\[(?P=a)\] of threadgroup memory on line {line_of('unwritten')}, "
        r"which nobody has written"
    ),
    "wrong_write_write": lambda: race(
        THREAD, "writes", r"cell\[\d+\]", line_of("twice"), THREAD, "written", line_of("twice")
    ),
    "wrong_small_barrier": lambda: race(
        THREAD, "reads", r"cell\[\d+\]", line_of("other"), THREAD, "written", line_of("own")
    ),
    "wrong_read_write": lambda: (
        race("thread 0", "writes", r"cell\[0\]", line_of("one writes"), "thread 40", "read", line_of("both read"))
        + "|"
        + race("thread 40", "reads", r"cell\[0\]", line_of("both read"), "thread 0", "written", line_of("one writes"))
    ),
    "wrong_range": lambda: rf"thread 127 uses cell\[128\] on line {line_of('range')}, but the array has 128 elements",
    "wrong_memory": lambda: r"needs more than 32768 bytes of threadgroup memory at (more|all)",
    "wrong_sum_as_barrier": lambda: race(
        THREAD, "reads", r"cell\[\d+\]", line_of("after sum"), THREAD, "written", line_of("before sum")
    ),
    "wrong_write_after_sum": lambda: race(
        THREAD, "writes", r"cell\[\d+\]", line_of("write of sum"), THREAD, "read", line_of("read for sum")
    ),
    "wrong_barrier_flags": lambda: race(
        THREAD, "reads", r"cell\[\d+\]", line_of("after flags"), THREAD, "written", line_of("before flags")
    ),
    "wrong_matrix_divergent": lambda: (
        rf"divergent collective: thread {lane(32, 48)} is at simdgroup_load on line {line_of('half loads')}, "
        rf"thread {lane(48, 64)} is at simdgroup_store on line {line_of('all store')}"
    ),
    "wrong_matrix_race": lambda: race(
        GROUP, "reads", r"tile\[\d+\]", line_of("load of others"), THREAD, "written", line_of("write for others")
    ),
    "wrong_matrix_no_barrier": lambda: race(
        GROUP, "reads", r"tile\[\d+\]", line_of("load of own"), THREAD, "written", line_of("write for own")
    ),
    "wrong_matrix_read": lambda: (
        race(THREAD, "reads", r"tile\[\d+\]", line_of("read of stored"), GROUP, "written", line_of("store"))
        + rf"|{THREAD} reads tile\[\d+\] of threadgroup memory on line {line_of('read of stored')}, which nobody has"
    ),
    "wrong_matrix_store": lambda: race(
        GROUP, "writes", r"tile\[\d+\]", line_of("store of all"), GROUP, "written", line_of("store of all")
    ),
    "wrong_matrix_overlap": lambda: race(
        GROUP, "writes", r"tile\[\d+\]", line_of("overlap"), GROUP, "written", line_of("overlap")
    ),
    "wrong_matrix_range": lambda: (
        rf"{GROUP} uses tile\[1(28|29|30|31|32|33|34)\] on line {line_of('past the end')}, "
        r"but the array has 128 elements"
    ),
    "wrong_matrix_unwritten": lambda: (
        rf"{GROUP} reads tile\[77\] of threadgroup memory on line {line_of('hole')}, which nobody has written"
    ),
    "wrong_matrix_arguments": lambda: (
        rf"simdgroup_load on line {line_of('own place')} has other arguments in thread (1|33|65|97) "
        r"than in thread (0|32|64|96)"
    ),
    "wrong_matrix_origin": lambda: (
        rf"simdgroup_load on line {line_of('origin')} must have the matrix origin \(0, 0\); move the pointer instead"
    ),
    "wrong_pointer_range": lambda: r"thread 127 uses tile\[128\] on line \d+, but the array has 128 elements",
}


def test_every_wrong_shader_has_its_message() -> None:
    text = "".join(path.read_text() for path in SHADERS.glob("wrong*.metal"))
    names = re.findall(r"^kernel void (\w+)\(", text, re.M)
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
    assert len(mutants()) == len(re.findall(r"_barrier\(", text)) == 12


def launch_of(kernel: str) -> tuple[list[np.ndarray], bytes, int]:
    """Buffers, arguments and threads of a right kernel, two rounds of every loop."""
    x, y, h = np.ones(256, np.float32), np.zeros(512, np.float32), np.zeros(64, np.float16)
    if "product" in kernel:
        return [x, x, y], struct.pack("3I", 16, 16, 16), 128
    if "matrix" in kernel:
        return [x, h, y, h], struct.pack("2I", 64, 1), 32
    return [x, y], struct.pack("2I", 128, 37) if "rotate" in kernel else struct.pack("I", 128), 128


@pytest.mark.parametrize(("order", "seed"), ORDERS)
@pytest.mark.parametrize("kernel", mutants())
def test_missing_barrier_is_reported(strict, kernel, order, seed) -> None:
    buffers, params, threads = launch_of(kernel)
    why = r"(has (read|written) on line \d+ since the last barrier|which nobody has written)"
    access = r"(the SIMD-group of )?thread \d+ (reads|writes) \w+\[\d+\]"
    with pytest.raises(RuntimeError, match=rf"^\[{kernel}\] {access}.* on line \d+, .*{why}$"):
        strict(kernel, buffers, params, (threads, 1, 1), (threads, 1, 1), order=order, seed=seed)
    check_right(strict)


def test_unknown_order(strict) -> None:
    x = np.zeros(128, np.float32)
    with pytest.raises(ValueError, match="order must be forward, reversed or shuffled, got 'upwards'"):
        strict("right_tree_f32", [x, x], struct.pack("I", 128), (128, 1, 1), order="upwards")


def test_host_refuses_kernels_with_collectives(host) -> None:
    x = np.zeros(128, np.float32)
    with pytest.raises(ValueError, match=r"\[right_tree_f32\] uses SIMD-group features, .*use its plain twin"):
        host("right_tree_f32", [x, x], struct.pack("I", 128), (128, 1, 1))
