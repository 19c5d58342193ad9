"""What the metal backend encodes, call by call, against the double: order, arguments, pointers, bytes, sizes."""

from __future__ import annotations

import ctypes
import struct
import subprocess
import sys

import numpy as np
import pytest
import torch

from nerf_metal import _C, kernels
from nerf_metal.kernels import signature
from tests.kernels.conftest import described
from tests.kernels.double import Double, doubles
from tests.kernels.launches import KERNELS, STRUCTS, pack
from tests.kernels.libraries import ROOT, SHADERS

pytestmark = pytest.mark.metal_encoding

INTERSECT = "march_intersect_f32"
# Each member another number, so that no two can be exchanged unseen.
PARAMS = {
    "n_rays": 4,
    "n_samples": 1001,
    "rays_per_thread": 1005,
    "edges_per_thread": 1002,
    "stratified": 1003,
    "disparity": 1004,
    "seed": 0xDEADBEEF,
    "t_near": 0.125,
    "t_far": 1e10,
}


def tensors() -> list[torch.Tensor]:
    """Views of one storage each, every one at another offset."""
    out = []
    for i, (shape, dtype) in enumerate(
        [((4, 3), torch.float32)] * 2 + [((2, 3), torch.float32)] + [((4,), torch.float32)] * 2 + [((4,), torch.bool)]
    ):
        count = int(np.prod(shape))
        storage = torch.arange(100.0).remainder(7).to(dtype)
        out.append(storage[3 * i + 1 : 3 * i + 1 + count].view(shape))
    return out


def launch(buffers: list[torch.Tensor | None], grid=(4,), **how) -> None:
    kernels.launch(INTERSECT, buffers, PARAMS, grid, backend="metal", **how)


def test_order_of_the_calls(metal: Double) -> None:
    launch(tensors())
    first = [entry["call"] for entry in metal.log()]
    once = ["start_encoding", *["set_arg_tensor"] * 6, "set_arg_bytes", "dispatch_array_with_group_size"]
    assert first == ["create_shader_library", "get_kernel_function", "run_command_block", *once]
    metal.clear()
    launch(tensors())  # library and kernel are kept
    assert [entry["call"] for entry in metal.log()] == ["run_command_block", *once]


def test_arguments_of_the_calls(metal: Double) -> None:
    buffers = tensors()
    launch(buffers, grid=(5,), group=(8, 4, 2))
    bound = metal.calls("set_arg_tensor")
    assert [entry["index"] for entry in bound] == [0, 1, 2, 3, 4, 5]
    assert [entry["data"] for entry in bound] == [t.data_ptr() for t in buffers]
    assert [entry["offset"] for entry in bound] == [1, 4, 7, 10, 13, 16]
    for entry, tensor in zip(bound, buffers, strict=True):
        start = tensor.untyped_storage().data_ptr()
        assert entry["data"] == start + entry["offset"] * tensor.element_size()
    (constants,) = metal.calls("set_arg_bytes")
    assert constants["index"] == 6
    values = struct.unpack("<7I2f", bytes.fromhex(constants["bytes"]))
    assert values == (*(PARAMS[name] for name, _ in STRUCTS["MarchParams"]),)
    (dispatch,) = metal.calls("dispatch_array_with_group_size")
    assert dispatch["grid"] == [5, 1, 1]
    assert dispatch["group"] == [8, 4, 2]


def test_group_is_four_simd_groups_by_default(metal: Double) -> None:
    launch(tensors())
    assert metal.calls("dispatch_array_with_group_size")[0]["group"] == [128, 1, 1]


def test_kernel_runs_on_what_was_bound(metal: Double) -> None:
    here, there = tensors(), tensors()
    launch(here)
    kernels.launch(INTERSECT, there, PARAMS, (4,), backend="host")
    for a, b in zip(here, there, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a._base, b._base)  # nothing beside the views has changed


def test_struct_through_the_method_of_older_torch(metal_method: Double) -> None:
    here, there = tensors(), tensors()
    launch(here)
    calls = [entry["call"] for entry in metal_method.log()]
    assert calls[-2:] == ["setArg", "dispatch_array_with_group_size"]
    (constants,) = metal_method.calls("setArg")
    assert constants["index"] == 6
    assert bytes.fromhex(constants["bytes"]) == pack(INTERSECT, PARAMS)
    kernels.launch(INTERSECT, there, PARAMS, (4,), backend="host")
    assert all(torch.equal(a, b) for a, b in zip(here, there, strict=True))


@pytest.mark.parametrize(("kernel", "params"), [("right_rotate_f32", (256, 37)), ("right_tree_f32", (256,))])
def test_small_structs_go_as_an_integer(metal: Double, kernel_library, kernel, params) -> None:
    """Up to 8 bytes need no function that only newer torch has."""
    headers = {f"{name}.h": (ROOT / "metal" / f"{name}.h").read_text() for name in ("common", "language", "tuning")}
    sources = signature.read_sources(SHADERS) | headers
    _C.metal_compile("right", signature.inline_includes("right.metal", sources))
    x, y = torch.arange(256.0), torch.zeros(256)
    packed = struct.pack(f"{len(params)}I", *params)
    _C.launch_metal(kernel, [x, y], packed, (256, 1, 1), (128, 1, 1))
    (constants,) = metal.calls("set_arg_int")
    assert bytes.fromhex(constants["bytes"]) == packed.ljust(8, b"\0")
    assert not metal.calls("set_arg_bytes")
    expected = x.view(2, 128)
    if kernel == "right_rotate_f32":
        assert torch.equal(y.view(2, 128), expected.roll(-74, 1))
    else:
        assert torch.equal(y[:2], expected.sum(1))


def test_absent_buffers_are_bound_to_some_tensor(metal: Double) -> None:
    """Metal wants every index bound, also where the shader reads nothing."""
    name, rays, samples = "composite_forward_simd_f32", 2, 3
    params = dict.fromkeys((m for m, _ in STRUCTS["CompositeParams"]), 0)
    params |= {"n_rays": rays, "n_samples": samples, "t_stride": samples, "early_stop_eps": 0.0}
    full = [
        torch.rand(rays, samples),
        torch.rand(rays, samples, 3),
        torch.rand(rays, samples),
        torch.rand(rays, samples),
    ]
    out = [torch.empty(rays, 3), torch.empty(rays), torch.empty(rays), *(torch.empty(rays, samples) for _ in range(2))]
    buffers = [*full, None, torch.empty(0), *out]
    kernels.launch(name, buffers, params, (64,), backend="metal")
    bound = metal.calls("set_arg_tensor")
    assert [entry["index"] for entry in bound] == list(range(11))
    assert bound[4]["data"] == bound[5]["data"] == full[0].data_ptr()


def test_nothing_is_encoded_for_no_threads(metal: Double) -> None:
    launch(tensors(), grid=(0,))
    assert not metal.calls("run_command_block")
    empty = dict(PARAMS, n_rays=0)
    buffers = [None, None, torch.zeros(2, 3), None, None, None]
    kernels.launch(INTERSECT, buffers, empty, (0,), backend="metal")
    assert not metal.calls("run_command_block")


def test_nothing_is_encoded_without_any_tensor(metal: Double) -> None:
    params = {"n_rays": 0, "n_samples": 0, "n_importance": 0, "stratified": 0, "merge": 0, "seed": 0}
    params["weight_floor"] = 1.0
    kernels.launch("importance_forward_f32", [None, None, None], params, (4,), backend="metal")
    assert not metal.calls("run_command_block")


def test_checks_come_before_anything_is_encoded(metal: Double) -> None:
    buffers = tensors()
    buffers[0] = buffers[0][:2].clone()
    with pytest.raises(ValueError, match=r"\[march_intersect_f32\] rays_o must have at least 12 elements, got 6"):
        launch(buffers)
    assert not metal.calls("run_command_block")


def test_only_tensors_are_taken(metal: Double) -> None:
    launch(tensors())
    packed = pack(INTERSECT, PARAMS)
    with pytest.raises(TypeError, match=rf"^\[{INTERSECT}\] rays_o must be a torch\.Tensor or None, got int$"):
        _C.launch_metal(INTERSECT, [1, 2, 3, 4, 5, 6], packed, (4, 1, 1), (32, 1, 1))
    memory = [described(t.numpy().view(np.uint8) if t.dtype == torch.bool else t.numpy()) for t in tensors()]
    with pytest.raises(TypeError, match=rf"^\[{INTERSECT}\] rays_o must be a torch\.Tensor or None, got tuple$"):
        _C.launch_metal(INTERSECT, memory, packed, (4, 1, 1), (32, 1, 1))


def test_every_kernel_has_contiguous_indices_up_to_its_struct() -> None:
    for kernel in KERNELS.values():
        assert [b.index for b in kernel.buffers] == list(range(kernel.params_index))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self/statm")
def test_torchs_own_handles_are_freed() -> None:
    """Before torch 2.14 a handle comes out of a capsule that frees nothing: 2 000 launches may not grow the process."""
    command = [sys.executable, "-m", "tests.kernels.handle_growth", doubles()["method"].path]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) < 4096, "kilobytes grown"  # 32 MB of rays where they are not freed


def test_double_is_the_library_that_was_asked_for() -> None:
    for name, functions in {
        "public": (True, False),
        "method": (False, True),
        "bare": (False, False),
    }.items():
        library = ctypes.CDLL(doubles()[name].path)
        wanted = ("torch_mps_set_arg_bytes", "_ZN2at6native3mps19MetalKernelFunction6setArgEjPKvy")
        assert tuple(hasattr(library, function) for function in wanted) == functions
