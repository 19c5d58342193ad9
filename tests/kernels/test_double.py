"""The double itself refuses what Metal would not take, or the tests that stand on it prove nothing."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from nerf_metal import _C
from tests.kernels.double import doubles
from tests.kernels.test_metal_encoding import INTERSECT

pytestmark = pytest.mark.metal_encoding

BLOCK = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)


@pytest.fixture
def raw() -> ctypes.CDLL:
    library = ctypes.CDLL(doubles()["public"].path)
    library.torch_exception_get_what.restype = ctypes.c_char_p
    doubles()["public"].clear()
    return library


def refuse(raw: ctypes.CDLL, code: int, words: str) -> None:
    assert code == 1
    assert words in raw.torch_exception_get_what().decode()


def compiled(raw: ctypes.CDLL) -> tuple[ctypes.c_void_p, ctypes.c_void_p]:
    source = _C.shader_sources()["march.metal"].replace('#include "', "// ").encode()
    library, kernel = ctypes.c_void_p(), ctypes.c_void_p()
    assert raw.aoti_torch_mps_create_shader_library(source, ctypes.byref(library)) == 0
    assert raw.aoti_torch_mps_get_kernel_function(library, INTERSECT.encode(), ctypes.byref(kernel)) == 0
    return library, kernel


def inside(raw: ctypes.CDLL, kernel: ctypes.c_void_p, work) -> None:
    """Run work in a command block; what it raises is raised here."""
    errors: list[AssertionError] = []

    def call(function: int, data: int) -> None:
        try:
            work()
        except AssertionError as error:
            errors.append(error)

    callback = BLOCK(call)
    assert raw.aoti_torch_mps_run_command_block(kernel, callback, None) == 0
    assert not errors, errors[0]


def test_sources(raw) -> None:
    library = ctypes.c_void_p()
    create = raw.aoti_torch_mps_create_shader_library
    refuse(raw, create(b'#include "params.h"\n', ctypes.byref(library)), "must be one string")
    refuse(raw, create("// \u00e9".encode(), ctypes.byref(library)), "must be ASCII")
    library, _ = compiled(raw)
    kernel = ctypes.c_void_p()
    code = raw.aoti_torch_mps_get_kernel_function(library, b"march_forward", ctypes.byref(kernel))
    refuse(raw, code, "holds no kernel march_forward")


def test_order(raw) -> None:
    _, kernel = compiled(raw)
    three = (ctypes.c_uint64 * 3)(1, 1, 1)
    refuse(raw, raw.aoti_torch_mps_start_encoding(kernel), "outside run_command_block")
    refuse(raw, raw.aoti_torch_mps_set_arg_int(kernel, 0, 1), "outside run_command_block")
    dispatch = raw.aoti_torch_mps_dispatch_array_with_group_size
    count = ctypes.c_size_t(3)
    refuse(raw, dispatch(kernel, three, count, three, count), "outside run_command_block")

    def work() -> None:
        refuse(raw, raw.aoti_torch_mps_set_arg_int(kernel, 0, 1), "before start_encoding")
        assert raw.aoti_torch_mps_start_encoding(kernel) == 0
        refuse(raw, raw.aoti_torch_mps_start_encoding(kernel), "twice")
        refuse(raw, raw.aoti_torch_mps_set_arg_tensor(kernel, 0, None), "without a tensor")
        assert raw.aoti_torch_mps_set_arg_int(kernel, 1, 1) == 0
        refuse(raw, raw.aoti_torch_mps_set_arg_int(kernel, 1, 1), "index 1 twice")
        refuse(raw, raw.aoti_torch_mps_set_arg_int(kernel, 31, 1), "there are 31")
        refuse(raw, raw.torch_mps_set_arg_bytes(kernel, 2, bytes(8), ctypes.c_size_t(8)), "8 bytes")
        refuse(raw, raw.torch_mps_set_arg_bytes(kernel, 2, bytes(4097), ctypes.c_size_t(4097)), "4097 bytes")
        for axes, words in [((32, 33, 1), "of 1056 threads"), ((0, 1, 1), "of 0 threads")]:
            group = (ctypes.c_uint64 * 3)(*axes)
            refuse(raw, dispatch(kernel, three, count, group, count), words)
        none = (ctypes.c_uint64 * 3)(0, 1, 1)
        refuse(raw, dispatch(kernel, none, count, three, count), "no threads")
        # the struct is at 1 and nothing at 0
        refuse(raw, dispatch(kernel, three, count, three, count), "argument struct")

    inside(raw, kernel, work)


def test_blocks(raw) -> None:
    _, kernel = compiled(raw)
    once = _C.shader_sources()["march.metal"].replace('#include "', "// ").encode()

    def work() -> None:
        out = ctypes.c_void_p()
        refuse(raw, raw.aoti_torch_mps_create_shader_library(once, ctypes.byref(out)), "inside run_command")
        code = raw.aoti_torch_mps_get_kernel_function(out, INTERSECT.encode(), ctypes.byref(out))
        refuse(raw, code, "inside run_command")
        refuse(raw, raw.aoti_torch_mps_run_command_block(kernel, None, None), "inside run_command")

    inside(raw, kernel, work)
    start = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(("aoti_torch_mps_start_encoding", raw))
    callback = BLOCK(lambda function, data: start(function) and None)
    refuse(raw, raw.aoti_torch_mps_run_command_block(kernel, callback, None), "ended before a dispatch")


def test_interpreter(raw) -> None:
    """Python inside a block, which this test's callback is; and a call by a thread that has Python's lock."""
    _, kernel = compiled(raw)
    callback = BLOCK(lambda function, data: None)
    with doubles()["public"].interpreter_held(0.2):
        refuse(raw, raw.aoti_torch_mps_run_command_block(kernel, callback, None), "waited for the interpreter")
    holding = ctypes.PyDLL(doubles()["public"].path)
    code = holding.aoti_torch_mps_run_command_block(kernel, callback, None)
    refuse(raw, code, "holds the interpreter's lock")


def test_pipelines_limit(raw) -> None:
    doubles()["public"].limit(INTERSECT, 64)
    _, kernel = compiled(raw)

    def work() -> None:
        assert raw.aoti_torch_mps_start_encoding(kernel) == 0
        sizes = [(ctypes.c_uint64 * 3)(n, 1, 1) for n in (64, 65)]
        dispatch, count = raw.aoti_torch_mps_dispatch_array_with_group_size, ctypes.c_size_t(3)
        refuse(raw, dispatch(kernel, sizes[0], count, sizes[1], count), "of 65 threads, the pipeline allows 64")
        refuse(raw, dispatch(kernel, sizes[0], count, sizes[0], count), "argument struct")

    inside(raw, kernel, work)


def test_handles_at_the_end_of_a_process() -> None:
    code = (
        "import ctypes, sys, torch\n"
        "library = ctypes.PyDLL(sys.argv[1])\n"
        "handle = ctypes.c_void_p()\n"
        "library.torch_tensor_from_pyobject(ctypes.py_object(torch.zeros(1)), ctypes.byref(handle))\n"
        "sys.argv[2] == 'free' and library.aoti_torch_delete_tensor_object(handle)\n"
    )
    for what, status, words in (("free", 0, ""), ("lose", 70, "double: 1 tensor handles were never freed\n")):
        command = [sys.executable, "-c", code, doubles()["public"].path, what]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (ended.returncode, ended.stderr) == (status, words)
