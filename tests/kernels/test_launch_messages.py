"""What the launcher refuses, and in which words: csrc/launcher and kernels/launch.py."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest
import torch

from nerf_metal import _C, kernels
from tests.kernels.launches import KERNELS, launch, pack
from tests.kernels.libraries import ROOT

pytestmark = pytest.mark.host_kernels

INTERSECT = "march_intersect_f32"
_HUGE = 10**5000  # more digits than Python, or pytest, writes
HUGE, HUGE_AXIS = pytest.param(_HUGE, id="huge"), pytest.param((_HUGE,), id="huge")
PARAMS = {
    "n_rays": 4,
    "n_samples": 1,
    "rays_per_thread": 1,
    "edges_per_thread": 1,
    "stratified": 0,
    "disparity": 0,
    "seed": 0,
    "t_near": 0.0,
    "t_far": 1e10,
}
IMPORTANCE = {"n_rays": 1, "n_samples": 1, "n_importance": 1, "stratified": 0, "merge": 0, "seed": 0}


def arguments() -> list[tuple[int, int, int]]:
    """Buffers for 4 rays, in memory that stays."""
    sizes, codes = (12, 12, 6, 4, 4, 4), (0, 0, 0, 0, 0, 4)
    return [(arrays.ctypes.data, size, code) for arrays, size, code in zip(_MEMORY, sizes, codes, strict=True)]


_MEMORY = [np.zeros(16, np.float32) for _ in range(6)]


def refused(message: str, *, change=None, params=PARAMS, packed=None, **how) -> None:
    """The launch must fail with a line that begins with the kernel's name and ends with this message."""
    buffers = arguments()
    if change is not None:
        change(buffers)
    with pytest.raises(ValueError) as caught:
        launch(INTERSECT, buffers, packed if packed is not None else pack(INTERSECT, params), **how)
    assert str(caught.value) == f"[{INTERSECT}] {message}"


def test_right_launch_runs() -> None:
    launch(INTERSECT, arguments(), pack(INTERSECT, PARAMS), grid=(4, 1, 1))


def test_struct_bytes() -> None:
    refused("MarchParams must have 36 bytes, got 35", packed=bytes(35))
    refused("MarchParams must have 36 bytes, got 0", packed=b"")
    refused("MarchParams must have 36 bytes, got 40", packed=bytes(40))


def test_buffer_count() -> None:
    refused("must get 6 buffers, got 5", change=lambda b: b.pop())
    refused("must get 6 buffers, got 7", change=lambda b: b.append(b[0]))
    with pytest.raises(ValueError, match="must get 6 buffers, got 7"):  # whatever the last is
        kernels.launch(INTERSECT, [*tensors(), torch.zeros(1, device="meta")], PARAMS, (4,), backend="host")


def test_group() -> None:
    refused("threadgroup size must be at least 1 on every axis, got 0", group=(32, 0, 1))
    refused("threadgroup must have at most 1024 threads, got 1056", group=(1056, 1, 1))
    refused("threadgroup must have at most 1024 threads, got 1025", group=(205, 5, 1))
    # products that wrap in 32 and in 64 bits
    refused("threadgroup must have at most 1024 threads, got 4294967296", group=(2**16, 2**16, 1))
    with pytest.raises(ValueError, match="threadgroup must have at most 1024 threads"):
        launch(INTERSECT, arguments(), pack(INTERSECT, PARAMS), group=(2**22, 2**21, 2**21))


def test_grid() -> None:
    tail = " (shaders count in 32 bits), got {}; launch fewer rays at a time"
    refused("grid must have less than 2^32 threads" + tail.format(2**32), grid=(2**31, 2, 1))
    # a product that wraps to nothing in 64 bits must not pass for an empty grid
    refused("grid must have less than 2^32 threads" + tail.format("more than 9e15"), grid=(2**22, 2**21, 2**21))


def test_grid_has_the_axes_that_the_shader_looks_at() -> None:
    """Threads on a further axis would all be the same ones: Metal and strict mode run them twice, the host others."""
    words = "grid must have one thread on every axis past the {} that the shader looks at, got {}"
    refused(words.format(1, 2), grid=(4, 2, 1))
    refused(words.format(1, 3), grid=(4, 1, 3))
    params = dict.fromkeys(PARAMS, 1)
    with pytest.raises(ValueError, match=re.escape(words.format(2, 5))):
        launch("march_forward_f32", [None] * 7, pack("march_forward_f32", params), (1, 4, 5))


@pytest.mark.parametrize(("grid", "group"), [((40, 1, 1), (32, 1, 1)), ((64, 1, 1), (48, 1, 1))])
def test_whole_simd_groups(grid, group) -> None:
    name = "composite_forward_simd_f32"
    params = bytes(40)
    with pytest.raises(ValueError) as caught:
        launch(name, [None] * 11, params, grid, group)
    expected = f"grid and threadgroup must hold whole SIMD-groups of 32 along x, got {grid[0]} and {group[0]}"
    assert str(caught.value) == f"[{name}] {expected}"


def test_missing_buffer() -> None:
    refused("aabb must be given, got None", change=lambda b: b.__setitem__(2, None))


@pytest.mark.parametrize(
    ("index", "code", "words"),
    [
        (0, 1, "rays_o must be float32, got float16"),
        (0, 2, "rays_o must be float32, got int32"),
        (3, 3, "t_min must be float32, got uint32"),
        (4, 4, "t_max must be float32, got uint8"),
        (5, 0, "hits must be uint8, got float32"),
    ],
)
def test_dtype(index, code, words) -> None:
    refused(words, change=lambda b: b.__setitem__(index, (*b[index][:2], code)))


def test_half_buffer_of_the_wrong_dtype() -> None:
    with pytest.raises(ValueError, match=r"\[composite_forward_f16\] values must be float16, got float32"):
        buffers = [(_MEMORY[0].ctypes.data, 16, 0)] * 11
        launch("composite_forward_f16", buffers, bytes(40), (1, 1, 1))


@pytest.mark.parametrize("index", range(6))
def test_one_element_too_few(index) -> None:
    name = ("rays_o", "rays_d", "aabb", "t_min", "t_max", "hits")[index]
    size = (12, 12, 6, 4, 4, 4)[index]
    refused(
        f"{name} must have at least {size} elements, got {size - 1}",
        change=lambda b: b.__setitem__(index, (b[index][0], size - 1, b[index][2])),
    )


def test_too_many_elements_for_32_bits() -> None:
    tail = "must have less than 2^32 elements (shaders index in 32 bits), got {}; launch fewer rays at a time"
    refused(f"rays_o {tail.format(3 * 2**31)}", params=PARAMS | {"n_rays": 2**31})
    name, params = "importance_forward_f32", IMPORTANCE | {"weight_floor": 1e-5}

    def message(**changes: int) -> str:
        buffers = [(_MEMORY[0].ctypes.data, 2**63, 0)] * 3  # no size is too small: the limit alone can refuse
        with pytest.raises(ValueError) as caught:
            launch(name, buffers, pack(name, params | changes))
        return str(caught.value)

    # 2^16 rows of 2^16: as 32-bit numbers the product is 0
    assert message(n_rays=2**16, n_samples=2**16 - 1) == f"[{name}] t_edges {tail.format(2**32)}"
    assert message(n_rays=1, n_samples=2**32 - 1) == f"[{name}] t_edges {tail.format(2**32)}"
    assert "t_out must have less than 2^32" in message(n_importance=2**32 - 1, merge=1)
    assert "got more than 9e15" in message(n_rays=2**32 - 1, n_samples=2**32 - 1)


@pytest.mark.parametrize("offset", [1, 2, 3])
def test_alignment(offset) -> None:
    refused(
        f"rays_o must be aligned to its elements of 4 bytes, got one at {offset}",
        change=lambda b: b.__setitem__(0, (b[0][0] + offset, b[0][1], 0)),
    )


def test_bytes_need_no_alignment() -> None:
    buffers = arguments()
    buffers[5] = (buffers[5][0] + 1, 4, 4)
    launch(INTERSECT, buffers, pack(INTERSECT, PARAMS), grid=(4, 1, 1))


def test_address_zero() -> None:
    refused("rays_o must have memory, got the address 0", change=lambda b: b.__setitem__(0, (0, 12, 0)))


def test_unknown_kernel() -> None:
    words = r"^\[launch\] kernel must be one of the shaders' kernels, got 'march_backward_f32'$"
    with pytest.raises(ValueError, match=words):
        _C.launch_host("march_backward_f32", [], b"", (1, 1, 1), (1, 1, 1), 1)
    with pytest.raises(ValueError, match=words):
        kernels.launch("march_backward_f32", [], {}, (1,), backend="host")


@pytest.mark.parametrize("bad", [(-1, 1, 1), (2**32, 1, 1), (1.5,), (None, 1), ("4",), HUGE_AXIS])
@pytest.mark.parametrize("name", ["grid", "group"])
def test_grids_that_are_no_counts(name, bad) -> None:
    words = rf"^\[{INTERSECT}\] {name} must hold whole numbers from 0 to 2\^32 - 1, got \(?.{{1,80}}$"
    with pytest.raises(ValueError, match=words):
        kernels.launch(INTERSECT, tensors(), PARAMS, **({"grid": (4,)} | {name: bad}), backend="host")


@pytest.mark.parametrize("bad", [4, [4], "4", {4: 4}])
def test_grids_that_are_no_tuples(bad) -> None:
    words = rf"^\[{INTERSECT}\] grid must be a tuple of 1 to 3 counts, got {type(bad).__name__}$"
    with pytest.raises(TypeError, match=words):
        kernels.launch(INTERSECT, tensors(), PARAMS, bad, backend="host")


def test_arguments_of_another_type() -> None:
    with pytest.raises(TypeError, match=rf"^\[{INTERSECT}\] params must be a dict or bytes, got str$"):
        kernels.launch(INTERSECT, tensors(), "x" * 36, (4,), backend="host")  # as long as the struct
    with pytest.raises(TypeError, match=rf"^\[{INTERSECT}\] buffers must be a list or tuple, got list_iterator$"):
        kernels.launch(INTERSECT, iter(tensors()), PARAMS, (4,), backend="host")
    for kernel in (None, 5, b"march", [INTERSECT], "\udcff"):
        with pytest.raises(TypeError, match=r"^\[launch\] kernel must be the name of one, got .+$"):
            kernels.launch(kernel, tensors(), PARAMS, (4,), backend="host")


@pytest.mark.parametrize("bad", [(1, 2), ("a", "b", "c"), (-1, 12, 0), (64, 12, 5), (64, 12, 256), (64, 12, 2**40)])
def test_memory_that_is_not_described(bad) -> None:
    """A type of 256 was taken for type 0."""
    with pytest.raises(TypeError, match=rf"^\[{INTERSECT}\] rays_o must be \(address, elements, type\), got \("):
        launch(INTERSECT, [bad, *arguments()[1:]], pack(INTERSECT, PARAMS), grid=(4, 1, 1))


def test_no_threads_to_run_on_means_the_caller_alone() -> None:
    _C.launch_host(INTERSECT, arguments(), pack(INTERSECT, PARAMS), (4, 1, 1), (32, 1, 1), 0)


def tensors() -> list[torch.Tensor]:
    """Tensors for 4 rays."""
    inputs = [torch.zeros(4, 3), torch.ones(4, 3), torch.tensor([[-1.0] * 3, [1.0] * 3])]
    return [*inputs, torch.empty(4), torch.empty(4), torch.empty(4, dtype=torch.bool)]


THREADS = """if True:
    import os, pathlib, resource, torch
    from nerf_metal import _C
    buffers = [torch.ones(64_000), torch.zeros(1), torch.zeros(2000, dtype=torch.int32)]
    {}
    _C.launch_host("occupancy_pack_f32", buffers, dict(n_words=2000), (2000,), (32,), 2**32 - 1)
    assert bool((buffers[2] == -1).all())
    print(len(os.listdir("/proc/self/task")))
"""
LITTLE_ROOM = """
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**27,) * 2)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("first", ["", LITTLE_ROOM], ids=["room for all", "room for few"])
def test_more_threads_than_can_be_had(first) -> None:
    """In a process of its own, since workers stay. A thread's stack is 8 MB of addresses."""
    program = [sys.executable, "-c", THREADS.format(first)]
    done = subprocess.run(program, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 300


@pytest.mark.parametrize("dtype", [torch.float64, torch.int64, torch.bfloat16, torch.int16])
def test_tensor_dtypes_no_kernel_takes(dtype) -> None:
    words = re.escape(f"[{INTERSECT}] rays_o must be float32, float16, int32, uint8 or bool, got {dtype}")
    with pytest.raises(TypeError, match=f"^{words}$"):
        kernels.launch(INTERSECT, [torch.zeros(4, 3, dtype=dtype), *tensors()[1:]], PARAMS, (4,), backend="host")


def test_meta_tensors_are_refused() -> None:
    words = rf"^\[{INTERSECT}\] rays_o must be on cpu, got meta; move it or take its backend$"
    with pytest.raises(ValueError, match=words):
        kernels.launch(INTERSECT, [torch.zeros(4, 3, device="meta"), *tensors()[1:]], PARAMS, (4,), backend="host")


def test_sparse_tensors_are_refused() -> None:
    words = rf"^\[{INTERSECT}\] rays_o must be a dense tensor with memory, got .+"
    with pytest.raises(ValueError, match=words) as caught:
        kernels.launch(INTERSECT, [torch.ones(4, 3).to_sparse(), *tensors()[1:]], PARAMS, (4,), backend="host")
    assert "\n" not in str(caught.value)


def test_a_storage_that_was_made_smaller_than_its_tensor() -> None:
    """It ends before the tensor begins: the difference is no huge number of elements."""
    whole = torch.zeros(64)
    rays = whole[40:52].view(4, 3)
    whole.untyped_storage().resize_(16)
    with pytest.raises(ValueError, match=rf"^\[{INTERSECT}\] rays_o must have at least 12 elements, got 0$"):
        kernels.launch(INTERSECT, [rays, *tensors()[1:]], PARAMS, (4,), backend="host")


@pytest.mark.parametrize(("grid", "axes"), [((), 0), ((4, 1, 1, 1), 4)])
def test_grids_have_one_to_three_axes(grid, axes) -> None:
    with pytest.raises(ValueError, match=rf"^\[{INTERSECT}\] grid must have 1 to 3 axes, got {axes}$"):
        kernels.launch(INTERSECT, tensors(), PARAMS, grid, backend="host")
    with pytest.raises(ValueError, match=rf"^\[{INTERSECT}\] group must have 1 to 3 axes, got {axes}$"):
        kernels.launch(INTERSECT, tensors(), PARAMS, (4,), group=grid, backend="host")


@pytest.mark.parametrize("backend", ["torch", "auto", "cuda", ""])
def test_launches_run_on_two_backends(backend) -> None:
    with pytest.raises(ValueError, match=rf"^\[{INTERSECT}\] backend must be metal or host, got '{backend}'$"):
        kernels.launch(INTERSECT, tensors(), PARAMS, (4,), backend=backend)


class _OnMps(torch.Tensor):
    """What a tensor on another device says of itself."""

    is_cpu = False
    is_mps = True
    device = torch.device("mps")


def test_device() -> None:
    words = "rays_o must be on cpu, got mps; move it or take its backend"
    with pytest.raises(ValueError, match=rf"^\[{INTERSECT}\] {words}$"):
        kernels.launch(INTERSECT, [torch.zeros(4, 3).as_subclass(_OnMps), *tensors()[1:]], PARAMS, (4,), backend="host")


def test_storage_behind_a_view_counts() -> None:
    """Strides are the kernel's affair: what counts is how far the storage reaches behind the first element."""
    buffers = tensors()
    storage = torch.zeros(12)
    buffers[0] = storage[:3].view(1, 3)  # 12 elements lie there, the view shows 3
    kernels.launch(INTERSECT, buffers, PARAMS, (4,), backend="host")
    buffers[0] = storage[1:].view(1, 11)
    with pytest.raises(ValueError, match="rays_o must have at least 12 elements, got 11"):
        kernels.launch(INTERSECT, buffers, PARAMS, (4,), backend="host")


def test_every_kernel_checks_its_struct_first() -> None:
    for name in KERNELS:
        with pytest.raises(ValueError, match=rf"\[{name}\] \w+Params must have \d+ bytes, got 3"):
            launch(name, [None] * len(KERNELS[name].buffers), b"abc", (1, 1, 1))
