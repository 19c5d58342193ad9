"""The parts of the self-test: how it places inputs, compares results and counts launches."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nerf_metal import kernels, ops
from nerf_metal.selftest.modes import HOST, Mode
from nerf_metal.selftest.probes import RELIED_ON, Side
from nerf_metal.selftest.probes_avoided import AVOIDED
from nerf_metal.selftest.table import OPS
from nerf_metal.selftest.tolerances import MismatchError, close, require

PROBES = pytest.mark.parametrize("probe", (*RELIED_ON, *AVOIDED), ids=lambda probe: probe.name)
OFFSET, QUEUED = Mode("", offset=3), Mode("", queued=True)


# ---- inputs ----
@pytest.mark.parametrize("mode", [HOST, OFFSET, QUEUED], ids=["host", "offset", "queued"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.int32, torch.int64], ids=str)
def test_a_placed_tensor_is_the_same_in_a_storage_of_its_own(dtype, mode: Mode) -> None:
    wide = (torch.arange(60).reshape(5, 12) - 7).to(dtype)
    for x in (wide, wide[1:, 4:9], wide.t(), wide[:, ::2], wide[:1].expand(7, 12), wide[3, 5], wide[:0]):
        placed = mode.place(x)
        assert torch.equal(placed, x) and placed.dtype == dtype
        assert placed.stride() == x.stride() and placed.storage_offset() == x.storage_offset() + mode.offset
        assert placed.untyped_storage().data_ptr() != wide.untyped_storage().data_ptr()


def test_queued_numbers_keep_every_bit() -> None:
    words = torch.randint(-(2**31), 2**31, (4096,), generator=torch.Generator().manual_seed(0)).to(torch.int32)
    special = torch.tensor([0, -(2**31), 1, 0x7F800000, 0x7FC00123, -1], dtype=torch.int32)  # zeros, denormals, NaNs
    x = torch.cat((words, special)).view(torch.float32)
    assert torch.equal(QUEUED.place(x).view(torch.int32), x.view(torch.int32))


def test_the_elements_before_an_offset_spoil_any_result_that_uses_them() -> None:
    for x in (torch.ones(4), torch.ones(4).half()):
        assert OFFSET.place(x).as_strided((3,), (1,), 0).isnan().all()
    assert OFFSET.place(torch.ones(4, dtype=torch.int32)).as_strided((3,), (1,), 0).eq(-1).all()


class NoFloat64(TorchDispatchMode):
    """A mode in which a float64 tensor is an error, because MPS has none."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for each in result if isinstance(result, (tuple, list)) else (result,):
            assert not isinstance(each, torch.Tensor) or each.dtype != torch.float64, func
        return result


@pytest.mark.host_kernels
@pytest.mark.parametrize("op", OPS, ids=lambda op: f"{op.name} {op.what}")
def test_no_case_makes_a_float64_on_the_device(op) -> None:
    for case in op.cases[:: max(1, len(op.cases) // 3)]:
        if op.name == "composite" and op.what != "accuracy":
            op.compare(case, op.run(case, HOST))  # the expected results are made once, on the CPU
        if op.name == "hashgrid":
            continue  # it draws its points in float64 on the CPU
        with NoFloat64():
            op.run(case, QUEUED)


@PROBES
def test_no_probe_makes_a_float64_on_the_device(probe) -> None:
    if probe.name == "rays of a picture":
        return  # it makes its pose in float64 on the CPU
    with NoFloat64():
        probe.run(Side("cpu", backend="host"))


# ---- comparisons ----
@PROBES
def test_every_probe_of_torch_sees_an_error(probe) -> None:
    """An error of a fiftieth of the largest entry, in the last entry of the last result, exceeds every tolerance."""

    def run(side: Side) -> dict[str, torch.Tensor]:
        found = probe.run(side)
        if side.exact:
            return found
        last = list(found)[-1]
        value = found[last].detach().clone(memory_format=torch.contiguous_format)
        flat = value.view(-1)
        if value.dtype == torch.bool:
            flat[-1] = ~flat[-1]
        else:
            off = value.abs().amax() / 50
            flat[-1] += off if value.is_floating_point() else max(1, int(off))
        return found | {last: value}

    assert len(probe.name) <= 44
    with pytest.raises(MismatchError):
        dataclasses.replace(probe, run=run).compare("cpu", "host")


def test_the_comparisons_raise_with_the_ratio() -> None:
    with pytest.raises(MismatchError, match="twins x: 2 times") as found:
        close(torch.tensor([1.5]), torch.ones(1), "x", 0.25, "twins")
    assert found.value.ratio == 2.0
    with pytest.raises(MismatchError, match="hits differ") as found:
        require(torch.zeros(3).bool().all(), "hits differ")
    assert found.value.ratio == float("inf")


# ---- launches ----
def test_launches_are_counted_where_a_thread_ran() -> None:
    directions = torch.nn.functional.normalize(torch.ones(4, 3), dim=-1)
    with kernels.record_launches() as record:
        ops.spherical_harmonics(directions[:0], backend="host")
        assert not record.ran
        ops.spherical_harmonics(directions, backend="host")
        with pytest.raises(ValueError, match="params must be"):
            kernels.launch("sh_backward_f32", [], {}, (1,), backend="host")
    assert record.ran == {"sh_forward_f32"} and set(record.failed) == {"sh_backward_f32"}
    ops.spherical_harmonics(directions, 2, backend="host")
    with kernels.record_launches() as record:
        pass
    assert not record.ran and not record.failed


def test_either_form_of_a_kernel_can_be_asked_for() -> None:
    assert kernels.variant("mlp_forward", torch.float32, "host") == ("mlp_forward_f32", 1)
    assert kernels.variant("mlp_forward", torch.float32, "metal") == ("mlp_forward_simd_f32", 32)
    with kernels.kernel_form(simd=False):
        assert kernels.variant("mlp_forward", torch.float32, "metal") == ("mlp_forward_f32", 1)
    with kernels.kernel_form(simd=True):
        assert kernels.variant("mlp_forward", torch.float32, "host") == ("mlp_forward_simd_f32", 32)
    assert kernels.variant("mlp_forward", torch.float32, "metal") == ("mlp_forward_simd_f32", 32)
