"""The Adam kernel against the float64 reference in every mode, cut into threads as on the host and as on a GPU."""

from __future__ import annotations

import pytest
import torch

from nerf_metal import kernels, ops
from nerf_metal.reference.adam import bias_corrections
from nerf_metal.selftest.adam import ADAM_CASES, BETA2, AdamCase, Table, compare_adam, run_adam
from nerf_metal.selftest.modes import HOST, METAL, Mode
from tests.ops.guards import Guarded
from tests.ops.modes import ALL_PLAIN_MODES, ON_METAL, PLAIN_KERNEL_MODES

CASES = pytest.mark.parametrize("case", ADAM_CASES, ids=lambda case: case.name)


@PLAIN_KERNEL_MODES
@CASES
def test_steps_are_the_references(case: AdamCase, mode: Mode) -> None:
    compare_adam(case, run_adam(case, mode))


@ON_METAL
def test_metal_steps_are_the_references() -> None:
    for case in ADAM_CASES:
        compare_adam(case, run_adam(case, METAL))


@PLAIN_KERNEL_MODES
@CASES
@pytest.mark.parametrize("per_thread", [1, 4, 5, 33, 100, 5000])
def test_threads_of_any_size_step_every_element_and_nothing_else(per_thread: int, case: AdamCase, mode: Mode) -> None:
    guarded = Guarded()
    table = Table(*(guarded.place(x) for x in case.build().each()))
    rate, scale = bias_corrections(case.step, case.lr, case.beta1, BETA2)
    params = {
        "n_elements": case.count,
        "elements_per_thread": per_thread,
        "sparse": int(case.sparse),
        "clear_grad": int(case.clear_grad),
        "has_half": int(case.half),
        "beta1": case.beta1,
        "beta2": BETA2,
        "weight1": 1 - case.beta1,
        "weight2": 1 - BETA2,
        "rate": rate,
        "scale": scale,
        "eps": case.eps,
    }
    with mode.active() as backend:
        kernels.launch("adam_step_f32", table.each(), params, (-(-case.count // per_thread),), backend=backend)
    guarded.check()
    compare_adam(case, table)


@ALL_PLAIN_MODES
def test_what_has_no_gradient_keeps_its_bits_and_what_is_nan_stays_nan(mode: Mode) -> None:
    nan, inf = float("nan"), float("inf")
    param, grad = torch.tensor([nan, -0.0, inf, 1.0, 2.0]), torch.tensor([0.0, 0.0, -0.0, nan, inf])
    exp_avg, exp_avg_sq = torch.tensor([inf, nan, 1e-42, 0.0, 0.0]), torch.tensor([-1.0, -0.0, nan, 0.0, 0.0])
    before = [x.clone() for x in (param, exp_avg, exp_avg_sq)]
    with mode.active() as backend:
        ops.adam_step(param, grad, exp_avg, exp_avg_sq, step=1, lr=0.1, backend=backend)
    for now, old in zip((param, exp_avg, exp_avg_sq), before, strict=True):
        assert torch.equal(now[:3].view(torch.int32), old[:3].view(torch.int32))
    assert param[3:].isnan().all() and exp_avg[3].isnan() and not grad.any()


@ALL_PLAIN_MODES
def test_tables_of_any_shape_in_the_middle_of_a_storage(mode: Mode) -> None:
    case = AdamCase("", 60, 0.5)
    flat, shaped = case.build(), [torch.full((70,), 3.0) for _ in range(4)]
    views = [x[5:65].view(3, 20) for x in shaped]
    for view, x in zip(views, flat.each()[:4], strict=True):
        view.copy_(x.view(3, 20))
    with mode.active() as backend:
        ops.adam_step(*flat.each()[:4], backend=backend, **case.options)
        ops.adam_step(*views, backend=backend, **case.options)
    for view, x in zip(views, flat.each()[:4], strict=True):
        assert torch.equal(view.flatten(), x)
    assert all((x[:5] == 3).all() and (x[65:] == 3).all() for x in shaped)


@ALL_PLAIN_MODES
def test_autograd_learns_of_the_write(mode: Mode) -> None:
    param = torch.ones(4, requires_grad=True)
    saved = (param * param).sum()
    with mode.active() as backend:
        ops.adam_step(param, torch.ones(4), torch.zeros(4), torch.zeros(4), step=1, lr=0.1, backend=backend)
    assert param.is_leaf and param.requires_grad
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        saved.backward()


def test_more_threads_and_more_runs_change_no_bit() -> None:
    case = AdamCase("", 300_000, 0.02, 4, half=True)
    alone = run_adam(case, HOST)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        together = [run_adam(case, HOST) for _ in range(3)]
    finally:
        torch.set_num_threads(before)
    for table in together:
        assert all(torch.equal(a, b) for a, b in zip(alone.each(), table.each(), strict=True))
