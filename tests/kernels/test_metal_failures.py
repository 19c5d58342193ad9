"""Every failure of Metal comes up as a RuntimeError that names the kernel, and the next launch works."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import torch

from nerf_metal import _C, kernels
from tests.kernels.double import Double, doubles
from tests.kernels.launches import KERNELS, valid_launch
from tests.kernels.libraries import METAL
from tests.kernels.test_metal_encoding import INTERSECT, PARAMS, launch, tensors

pytestmark = pytest.mark.metal_encoding

NAMES = ("rays_o", "rays_d", "aabb", "t_min", "t_max", "hits")
LIBTORCH = f"{torch.__path__[0]}/lib/libtorch_cpu.{'dylib' if torch.backends.mps.is_built() else 'so'}"


def fails(message: str, function=launch) -> None:
    """The launch raises exactly this; the one after it works."""
    with pytest.raises(RuntimeError) as caught:
        function(tensors())
    assert str(caught.value) == message
    buffers, expected = tensors(), tensors()
    launch(buffers)
    kernels.launch(INTERSECT, expected, PARAMS, (4,), backend="host")
    assert all(torch.equal(a, b) for a, b in zip(buffers, expected, strict=True))


@pytest.mark.parametrize("call", ["start_encoding", "set_arg_bytes", "dispatch_array_with_group_size"])
def test_failure_while_encoding(metal: Double, call) -> None:
    metal.fail(call, "the GPU is on fire")
    fails(f"[{INTERSECT}] Metal launch failed in {call}: the GPU is on fire")


@pytest.mark.parametrize("index", range(6))
def test_failure_of_one_argument(metal: Double, index) -> None:
    metal.fail("set_arg_tensor", "no such buffer", index + 1)
    fails(f"[{INTERSECT}] Metal launch failed in set_arg_tensor for {NAMES[index]}: no such buffer")


@pytest.mark.parametrize("call", ["start_encoding", "set_arg_tensor", "set_arg_bytes"])
def test_nothing_follows_a_failure(metal: Double, call) -> None:
    metal.fail(call, "no")
    with pytest.raises(RuntimeError):
        launch(tensors())
    assert metal.log()[-1]["call"] == call


def test_pipeline_with_fewer_threads_than_a_group(metal: Double) -> None:
    metal.limit(INTERSECT, 96)
    words = f"[{INTERSECT}] Metal launch failed in dispatch_array_with_group_size: double: "
    with pytest.raises(RuntimeError) as caught:
        launch(tensors())
    assert str(caught.value) == words + "threadgroup of 128 threads, the pipeline allows 96"


@pytest.mark.parametrize("kernel", KERNELS)
def test_failure_of_every_call_of_every_kernel(metal: Double, kernel) -> None:
    """Each call of a first launch fails in turn; every time the error names the kernel, and no handle is lost."""
    buffers, params, grid = valid_launch(kernel)

    def run() -> None:
        _C.metal_load(metal.path, metal.path)  # as a new process: compile and look up again
        kernels.launch(kernel, buffers, params, grid, backend="metal")

    run()
    calls = [entry["call"] for entry in metal.log()]
    assert len(calls) == len(buffers) + 6  # compile, look up, block, start, struct, dispatch
    for i, call in enumerate(calls):
        metal.clear()
        metal.fail(call, "not today", calls[: i + 1].count(call))
        with pytest.raises(RuntimeError, match=rf"^\[{kernel}\] .*: not today$"):
            run()
        assert [entry["call"] for entry in metal.log()] == calls[: i + 1]
        assert metal.live_handles() == 0


def test_failure_of_the_command_block(metal: Double) -> None:
    metal.fail("run_command_block", "no queue")
    fails(f"[{INTERSECT}] Metal launch failed in run_command_block: no queue")


def test_failure_of_the_kernel_look_up(metal: Double) -> None:
    metal.fail("get_kernel_function", "function is not there")
    fails(f"[{INTERSECT}] Metal gives no pipeline for it from library march: function is not there")


def test_failure_of_the_compiler(metal: Double) -> None:
    metal.fail("create_shader_library", "program_source:7: error: expected ';'")
    fails(f"[{INTERSECT}] [march] Metal could not compile the shader: program_source:7: error: expected ';'")


def test_compiler_text_of_an_edited_shader(metal: Double, tmp_path, monkeypatch) -> None:
    for path in METAL.glob("[!.]*"):
        (tmp_path / path.name).write_text(path.read_text())
    with (tmp_path / "march.metal").open("a") as file:
        file.write("#error half a kernel\n")
    monkeypatch.setenv("NERF_METAL_SHADER_DIR", str(tmp_path))
    words = f"[{INTERSECT}] [march] Metal could not compile the shader: program_source: error: #error half a kernel"
    with pytest.raises(RuntimeError, match=f"^{re.escape(words)}$"):
        launch(tensors())
    monkeypatch.delenv("NERF_METAL_SHADER_DIR")
    launch(tensors())


def test_failure_text_is_empty_where_torch_gives_none(metal_method: Double) -> None:
    """Torch before 2.13 only logs the text."""
    metal_method.fail("start_encoding", "unseen")
    fails(f"[{INTERSECT}] Metal launch failed in start_encoding")
    metal_method.fail("get_kernel_function", "unseen")
    _C.metal_load(LIBTORCH, metal_method.path)
    fails(f"[{INTERSECT}] Metal gives no pipeline for it from library march")
    metal_method.fail("create_shader_library", "unseen")
    _C.metal_load(LIBTORCH, metal_method.path)
    fails(f"[{INTERSECT}] [march] Metal could not compile the shader")


def test_handles_are_freed_when_a_later_tensor_gives_none(metal: Double, monkeypatch) -> None:
    launch(tensors())
    aoti = torch._C._aoti
    alloc, calls = aoti.unsafe_alloc_void_ptr_from_tensor, iter(range(6))

    def fail_at_the_fourth(tensor: torch.Tensor) -> object:
        if next(calls) == 3:
            raise RuntimeError("no handle")
        return alloc(tensor)

    monkeypatch.setattr(aoti, "unsafe_alloc_void_ptr_from_tensor", fail_at_the_fourth)
    with pytest.raises(TypeError, match=rf"^\[{INTERSECT}\] t_min must be a torch\.Tensor$"):
        launch(tensors())
    assert next(calls) == 4
    assert metal.live_handles() == 0


def test_torch_without_the_functions(tmp_path) -> None:
    with kernels.use_metal_provider(doubles()["bare"].path):
        reason = kernels.why_not("metal")
    assert reason == (
        "[metal] torch must export _ZN2at6native3mps19MetalKernelFunction6setArgEjPKvy, "
        "which it does from 2.10 on for macOS; install torch>=2.10"
    )
    with kernels.use_metal_provider(LIBTORCH):  # Linux's torch has none of them
        reason = kernels.why_not("metal")
    assert reason == (
        "[metal] torch must export aoti_torch_mps_create_shader_library, "
        "which it does from 2.10 on for macOS; install torch>=2.10"
    )
    with kernels.use_metal_provider(str(tmp_path / "nothing.so")):
        assert re.match(r"\[metal\] .*nothing\.so.*No such file", kernels.why_not("metal") or "")


def test_torch_must_be_loaded(tmp_path) -> None:
    with pytest.raises(RuntimeError, match=r"^\[metal\] .*libtorch_cpu\.so must be loaded; import torch first$"):
        _C.metal_load(str(tmp_path / "libtorch_cpu.so"), "")


def test_nothing_works_before_load() -> None:
    """In another process: this one has loaded it."""
    code = (
        "from nerf_metal import _C\n"
        "for call in (lambda: _C.metal_compile('march', ''),"
        " lambda: _C.launch_metal('march_intersect_f32', [None] * 6, bytes(36), (0, 1, 1), (1, 1, 1))):\n"
        "    try: call()\n"
        "    except RuntimeError as error: print(error)\n"
    )
    root = str(METAL.parent)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert result.stdout.splitlines() == [
        "[metal] load must come before compile",
        "[metal] load must come before a launch",
    ]


def test_launch_before_compile(metal: Double) -> None:
    with pytest.raises(RuntimeError, match=rf"^\[{INTERSECT}\] shader library march must be compiled first$"):
        _C.launch_metal(INTERSECT, tensors(), bytes(36), (1, 1, 1), (1, 1, 1))
