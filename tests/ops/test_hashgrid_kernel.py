"""Hash encoding: the kernels against the float64 reference in every mode, and where the table's gradient goes."""

from __future__ import annotations

import pytest
import torch

from nerf_metal import kernels, ops
from nerf_metal.selftest.hashgrid import (
    HASHGRID_CASES,
    SUFFIX,
    HashgridCase,
    compare_hashgrid,
    expected_hashgrid,
    hashgrid_params,
    launch_table_gradients,
    run_hashgrid,
)
from nerf_metal.selftest.modes import HOST, METAL, TORCH, Mode
from nerf_metal.selftest.tolerances import all_close
from tests.ops.guards import Guarded
from tests.ops.modes import ALL_PLAIN_MODES, ON_METAL, PLAIN_KERNEL_MODES

CASES = pytest.mark.parametrize("case", HASHGRID_CASES, ids=lambda case: case.name)
MIXED = HashgridCase("mixed", 150)


@ALL_PLAIN_MODES
@CASES
def test_features_and_gradients_are_the_references(case: HashgridCase, mode: Mode) -> None:
    compare_hashgrid(case, run_hashgrid(case, mode))


@ON_METAL
@pytest.mark.parametrize("deterministic", [False, True])
def test_metal_features_and_gradients_are_the_references(deterministic: bool) -> None:
    for case in HASHGRID_CASES:
        compare_hashgrid(case, run_hashgrid(case, METAL, deterministic=deterministic))


@PLAIN_KERNEL_MODES
@pytest.mark.parametrize("case", [c for c in HASHGRID_CASES if c.points < 1000], ids=lambda case: case.name)
@pytest.mark.parametrize("per_thread", [1, 7, 64, 100, 4000])
def test_threads_of_any_size_write_every_point_and_nothing_else(
    per_thread: int, case: HashgridCase, mode: Mode
) -> None:
    """Every kernel in place of the op's choice, with every buffer between guards."""
    guarded = Guarded()
    positions, table, levels, grad = (guarded.place(x) for x in case.build())
    assert table is not None and levels is not None
    params, suffix = hashgrid_params(case, per_thread), SUFFIX[case.dtype]
    threads = -(-case.points // per_thread)
    out = {
        "features": guarded.unfilled((case.points, len(levels) * case.features)),
        "positions": guarded.unfilled((case.points, 3)),
        **{name: guarded.place(torch.zeros(table.shape)) for name in ("levels", "atomic", "fixed")},
    }
    sums = guarded.place(torch.zeros((*table.shape, 2), dtype=torch.int32))
    launches = (
        (f"forward_{suffix}", [positions, table, levels, out["features"]], (threads, len(levels))),
        (f"backward_positions_{suffix}", [positions, table, levels, grad, out["positions"]], (threads,)),
    )
    with mode.active() as backend:
        for name, buffers, grid in launches:
            kernels.launch(f"hashgrid_{name}", buffers, params, grid, backend=backend)
        launch_table_gradients([positions, grad, levels], out, sums, params, backend)
    guarded.check()
    want, tolerance = expected_hashgrid(case)
    for name in ("levels", "atomic", "fixed"):
        got = {"features": out["features"], "positions": out["positions"], "table": out[name]}
        all_close(got, want, tolerance, f"{case.name} {name}")


@PLAIN_KERNEL_MODES
@pytest.mark.parametrize("features", [2, 4, 8])
def test_every_half_is_read_as_it_is(features: int, mode: Mode) -> None:
    # 32 cells: a point at (i - 1/2) / 32 lies on vertex i. Of infinities and NaN 0 times is no number.
    values = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(torch.float16)
    rows = torch.where(values.isfinite(), values, 0.0).view(-1, features)
    vertex = torch.cartesian_prod(*[torch.arange(1, 33)] * 3)[: len(rows)]
    table = torch.zeros((34**3, features), dtype=torch.float16)
    table[(vertex * torch.tensor([1, 34, 34**2])).sum(-1)] = rows
    with mode.active() as backend:
        got = ops.hashgrid_encode((vertex - 0.5) / 32, table, ops.hashgrid_levels(1, 32, 32, 16), backend=backend)
    assert torch.equal(got, rows.float())


@PLAIN_KERNEL_MODES
@pytest.mark.parametrize("features", [0, 3, 5, 16])
def test_other_numbers_of_features_write_nothing(features: int, mode: Mode) -> None:
    case = HashgridCase("", 33, 4)
    positions, _, levels, _ = case.build()
    params = hashgrid_params(case, 10) | {"n_features": features}
    room = torch.full((params["n_entries"] * 16,), 7.0)
    wide = torch.full((33 * len(levels) * 16,), 7.0)
    with mode.active() as backend:
        for name, buffers, grid in (
            ("forward_f32", [positions, room, levels, wide], (4, len(levels))),
            ("backward_levels_f32", [positions, wide, levels, room], (len(levels),)),
            ("backward_positions_f32", [positions, room, levels, wide, wide[:99].clone()], (4,)),
        ):
            kernels.launch(f"hashgrid_{name}", buffers, params, grid, backend=backend)
    assert (room == 7).all() and (wide == 7).all()


@PLAIN_KERNEL_MODES
def test_arguments_may_be_views(mode: Mode) -> None:
    case = HashgridCase("", 70)
    positions, table, levels, grad = case.build()
    want = run_hashgrid(case, mode)
    wide = torch.nn.functional.pad(positions, (2, 1), value=float("nan"))[:, 2:5].requires_grad_()
    inner = torch.nn.functional.pad(table, (0, 0, 5, 3), value=float("nan"))[5:-3].requires_grad_()
    with mode.active() as backend:
        features = ops.hashgrid_encode(wide, inner, levels.t().contiguous().t(), backend=backend)
        gradients = torch.autograd.grad(features, (wide, inner), grad.t().contiguous().t())
        columns = ops.hashgrid_encode(positions, table.t().contiguous().t(), levels, backend=backend)
        one = ops.hashgrid_encode(positions[:1].expand(70, 3), table, levels, backend=backend)
    got = {"features": features, "positions": gradients[0], "table": gradients[1]}
    assert all(torch.equal(got[name], want[name]) for name in want)
    assert torch.equal(columns, features)
    assert torch.equal(one, features[:1].expand_as(one))


@PLAIN_KERNEL_MODES
def test_a_spoiled_gradient_spoils_its_own_entries_alone(mode: Mode) -> None:
    case = HashgridCase("", 70, 2)
    positions, table, levels, grad = case.build()
    grad[3, 2] = float("nan")
    table.requires_grad_()
    with mode.active() as backend:
        features = ops.hashgrid_encode(positions, table, levels, backend=backend)
        (got,) = torch.autograd.grad(features, table, grad)
        (alone,) = torch.autograd.grad(
            ops.hashgrid_encode(positions[3:4], table, levels, backend=backend), table, torch.ones(1, 8)
        )
    _, first, entries, _ = levels[1].tolist()
    touched = (alone != 0).any(-1)
    touched[:first] = touched[first + entries :] = False
    assert torch.equal(got.isnan(), touched[:, None] & torch.tensor([True, False]))


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_more_threads_change_no_bit(threads: int) -> None:
    case = HashgridCase("", 20000)
    before = torch.get_num_threads()
    got = []
    try:
        for count in (1, threads):
            torch.set_num_threads(count)
            got.append(run_hashgrid(case, HOST))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(got[0][name], got[1][name]) for name in got[0])


# ---- what was worked out before, and a gradient that others added to ----
@ALL_PLAIN_MODES
def test_a_known_result_has_the_gradients_of_a_call_of_its_own(mode: Mode) -> None:
    want = run_hashgrid(MIXED, mode)
    known = want["features"].clone()
    got = run_hashgrid(MIXED, mode, known=known)
    assert all(torch.equal(got[name], want[name]) for name in want)
    if mode is not TORCH:  # the numbers themselves, not others like them
        assert got["features"].data_ptr() == known.data_ptr()


@ALL_PLAIN_MODES
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("deterministic", [False, True])
def test_a_given_gradient_is_added_to_and_none_returned(deterministic: bool, dtype: torch.dtype, mode: Mode) -> None:
    case = HashgridCase("", 70, dtype=dtype)
    positions, table, levels, grad = case.build()
    positions.requires_grad_()
    table.requires_grad_()
    start = torch.randn(table.shape, generator=torch.Generator().manual_seed(5))
    given = start.clone()
    for times in (1, 2):
        with mode.active() as backend:
            features = ops.hashgrid_encode(
                positions, table, levels, grad_table=given, deterministic=deterministic, backend=backend
            )
            features.backward(grad)
        want, tolerance = expected_hashgrid(HashgridCase("", 70, dtype=dtype))
        want["table"] = start + times * want["table"]
        # the sum with what was there rounds each addend to its size
        tolerance["table"] = 2 * times * tolerance["table"] + 40 * 2.0**-24 * (start.abs() + want["table"].abs())
        all_close({"table": given}, {"table": want["table"]}, tolerance, case.name)
        assert table.grad is None
        assert positions.grad is not None
        all_close({"positions": positions.grad / times}, {"positions": want["positions"]}, tolerance, case.name)


@ALL_PLAIN_MODES
def test_a_given_gradient_may_be_the_parameters_own(mode: Mode) -> None:
    want = run_hashgrid(MIXED, mode)["table"]
    positions, table, levels, grad = MIXED.build()
    table.requires_grad_()
    table.grad = torch.zeros_like(table)
    with mode.active() as backend:
        features = ops.hashgrid_encode(positions, table, levels, grad_table=table.grad, backend=backend)
        features.backward(grad)
    assert torch.equal(table.grad, want)


@ALL_PLAIN_MODES
def test_a_constant_table_leaves_a_given_gradient_alone(mode: Mode) -> None:
    positions, table, levels, grad = MIXED.build()
    positions.requires_grad_()
    given = torch.zeros_like(table)
    with mode.active() as backend:
        features = ops.hashgrid_encode(positions, table, levels, grad_table=given, backend=backend)
        features.backward(grad)
    assert positions.grad is not None and (positions.grad != 0).any()
    assert not given.any()
