"""Launches on tensors with anything wrong with them: Python gets one line and nothing has changed, or it runs inside
its buffers. That its results are then right is compared op by op, in tests/ops/test_op_fuzz.py.

tests/kernels/test_launch_safety.py gives the kernels wild numbers in memory of the right form; here the form is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nerf_metal import _C, kernels
from tests.fuzz import examples
from tests.kernels.double import Double
from tests.kernels.launches import KERNELS, grid_of, needed, small_params

DTYPES = {"float": torch.float32, "half": torch.float16, "int": torch.int32, "uchar": torch.uint8}
OTHER_DTYPES = [torch.float64, torch.int64, torch.bfloat16, torch.complex64, torch.float32, torch.float16, torch.bool]
LIMIT = 2**32


GUARD = 64  # bytes


@dataclass
class Call:
    """What a launch is given, by the names of kernels.launch, and the memory that its tensors lie in."""

    kernel: Any
    buffers: Any
    params: Any
    grid: Any
    group: Any
    memory: list[np.ndarray]
    tensors: list[torch.Tensor | None]

    def guards_are_whole(self) -> bool:
        return all((m[:GUARD] == 0xA5).all() and (m[-GUARD:] == 0xA5).all() for m in self.memory)


def clean(kernel: str, seed: int) -> Call:
    """A launch that is right: sensible numbers in storages of just the size, between guards."""
    random = np.random.default_rng(seed)
    params = small_params(kernel, random)
    call = Call(kernel, [], params, grid_of(kernel, params, random), (32, 1, 1), [], [])
    for buffer, count in zip(KERNELS[kernel].buffers, needed(kernel, params), strict=True):
        dtype = DTYPES[buffer.dtype]
        memory = np.full(count * dtype.itemsize + 2 * GUARD, 0xA5, np.uint8)
        tensor = torch.frombuffer(memory, dtype=dtype, count=count, offset=GUARD) if count else None
        if tensor is not None:
            numbers = random.uniform(0, 3, count) if dtype.is_floating_point else random.integers(0, 80, count)
            tensor.copy_(torch.from_numpy(numbers))
        call.tensors.append(tensor)
        call.memory.append(memory)
    call.buffers = list(call.tensors)
    return call


def small_storage(tensor: torch.Tensor) -> torch.Tensor:
    """A view that starts behind the end of its storage."""
    whole = torch.zeros(4 * tensor.numel() + 64, dtype=tensor.dtype)
    view = whole[3 * tensor.numel() + 64 :]
    whole.untyped_storage().resize_(2 * tensor.element_size())
    return view


# What is put in the place of a buffer.
SPOILED: dict[str, Callable[[torch.Tensor], Any]] = {
    "none": lambda t: None,
    "empty": lambda t: t.new_empty(0),
    "meta": lambda t: t.to("meta"),
    "other dtype": lambda t: t.to(OTHER_DTYPES[t.numel() % len(OTHER_DTYPES)]),
    "sparse": lambda t: t.to_sparse(),
    "short": lambda t: t[:-1].clone(),
    "shrunk": small_storage,
    "number": lambda t: 7,
    "text": lambda t: "x\ny",
    "array": lambda t: t.numpy(),
    "type": lambda t: torch.Tensor,
    "pair": lambda t: (t.data_ptr(), t.numel()),
    "texts": lambda t: ("a", "b", "c"),
    "other type": lambda t: (t.data_ptr(), t.numel(), 256),
    "below zero": lambda t: (-1, -1, 0),
}
HUGE = 10**5000  # more digits than Python writes
MEMBERS = [None, "1", -1, LIMIT, LIMIT - 1, 1.5, 1e39, float("nan"), HUGE, [], torch.ones(3), True, object()]
PARAMS = [None, 5, "x" * 36, [], b"", b"\0" * 36, {}, {"n_rays": 1}, {1: 2}, {"a\nb": 1}]
AXES = st.one_of(
    st.sampled_from([None, 5, "abc", "1", b"ab", (), [], (1, 1, 1, 1), {}, (1.5,), (None,), ("1", 1), [4], (HUGE,)]),
    st.lists(st.sampled_from([0, 1, 2, 31, 32, 64, LIMIT - 1, LIMIT, 2**31, -1, 2**64]), min_size=1, max_size=4).map(
        tuple
    ),
)
NAMES = [None, 5, "", "march", "a\nb", "\udcff", b"march_intersect_f32", [], ("march_intersect_f32",), "x" * 10**5]


def spoil(call: Call, data: st.DataObject, *, sizes: bool) -> None:
    """Make one thing wrong; ``sizes`` may be the grid or the group."""
    kinds = ["buffer"] * 8 + ["member"] * 4 + ["count", "params", "kernel"] + ["grid", "group"] * sizes
    what = data.draw(st.sampled_from(kinds))
    if what == "buffer":
        i = data.draw(st.integers(0, len(call.buffers) - 1))
        if type(call.buffers[i]) is torch.Tensor and call.buffers[i] is call.tensors[i]:
            call.buffers[i] = SPOILED[data.draw(st.sampled_from(sorted(SPOILED)))](call.buffers[i])
    elif what == "member":
        name = data.draw(st.sampled_from(sorted(call.params)))
        call.params = call.params | {name: data.draw(st.sampled_from(MEMBERS))}
    elif what == "count":
        new = [[], call.buffers[:-1], [*call.buffers, None], None, 5, "abc", set(), dict.fromkeys(range(9)), iter([])]
        call.buffers = data.draw(st.sampled_from(new))
    elif what == "params":
        call.params = data.draw(st.sampled_from(PARAMS))
    elif what == "kernel":
        call.kernel = data.draw(st.sampled_from(NAMES))
    elif what == "group":
        call.group = data.draw(AXES)
    else:
        call.grid = data.draw(AXES)
        # Threads without work are counted too: what may run is small.
        if isinstance(call.grid, tuple) and max((n for n in call.grid if isinstance(n, int)), default=0) > 64:
            call.buffers = call.buffers[:-1]


def host(call: Call) -> None:
    _C.launch_host(call.kernel, call.buffers, call.params, call.grid, call.group, 2)


def strict(call: Call) -> None:
    _C.launch_strict(call.kernel, call.buffers, call.params, call.grid, call.group, "shuffled", 1)


def metal(call: Call) -> None:
    _C.launch_metal(call.kernel, call.buffers, call.params, call.grid, call.group)


def through(backend: str) -> Callable[[Call], None]:
    def run(call: Call) -> None:
        kernels.launch(call.kernel, call.buffers, call.params, call.grid, group=call.group, backend=backend)

    return run


def attempt(run: Callable[[Call], None], call: Call) -> str | None:
    """None where it ran; what it said, in one line, where it did not."""
    try:
        run(call)
    except (ValueError, TypeError, RuntimeError) as error:
        text = str(error)
        assert text.startswith("["), text
        assert "\n" not in text
        assert len(text) < 1000, text
        return text
    return None


RUNS = {"host": host, "strict": strict, "kernels.launch": through("host")}
ON_METAL = {"metal": metal, "kernels.launch": through("metal")}


def fuzz(kernel: str, runs: dict[str, Callable[[Call], None]], data: st.DataObject) -> None:
    """One launch with one or two things wrong: refused with nothing changed, or run inside its buffers."""
    call = clean(kernel, data.draw(st.integers(0, 2**32 - 1)))
    before = [memory.copy() for memory in call.memory]
    spoil(call, data, sizes=True)
    whole = isinstance(call.buffers, list) and isinstance(call.params, dict) and call.buffers and call.params
    if whole and data.draw(st.booleans()):
        spoil(call, data, sizes=False)
    name = data.draw(st.sampled_from(sorted(runs)))
    if attempt(runs[name], call) is not None:
        assert all((memory == old).all() for memory, old in zip(call.memory, before, strict=True))
    assert call.guards_are_whole()


@pytest.mark.host_kernels
@pytest.mark.parametrize("kernel", sorted(KERNELS))
@examples(100)
@given(data=st.data())
def test_a_spoiled_launch_is_refused_or_runs_inside_its_buffers(kernel: str, data: st.DataObject) -> None:
    fuzz(kernel, RUNS, data)


@pytest.mark.metal_encoding
@pytest.mark.parametrize("kernel", sorted(KERNELS))
def test_so_is_one_on_metal(metal: Double, kernel: str) -> None:
    @examples(40)
    @given(data=st.data())
    def run(data: st.DataObject) -> None:
        metal.clear()
        fuzz(kernel, ON_METAL, data)

    run()
