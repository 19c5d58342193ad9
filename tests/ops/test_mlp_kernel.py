"""The MLP's kernels against the float64 reference in every mode, cut into threads, chunks and scratch of any size."""

from __future__ import annotations

import functools
import importlib
import itertools
import re
from pathlib import Path

import pytest
import torch

from nerf_metal import kernels, ops
from nerf_metal.reference import mlp
from nerf_metal.selftest.mlp import ACTIVATIONS, MLP_CASES, MlpCase, compare_mlp, run_mlp
from nerf_metal.selftest.modes import HOST, METAL, STRICT, Mode
from tests.ops.guards import Guarded
from tests.ops.modes import KERNEL_MODES, ON_METAL, PLAIN_AND_SIMD, PLAIN_KERNEL_MODES

CASES = pytest.mark.parametrize("case", MLP_CASES, ids=lambda case: case.name)
USUAL = MlpCase("usual", 50, (24, 32, 32, 7), activation="sigmoid")
OP = importlib.import_module("nerf_metal.ops.mlp")  # the package has the function under this name


@KERNEL_MODES
@CASES
def test_values_and_gradients_are_the_references(case: MlpCase, mode: Mode) -> None:
    compare_mlp(case, run_mlp(case, mode))


@ON_METAL
def test_metal_values_and_gradients_are_the_references() -> None:
    for case in MLP_CASES:
        compare_mlp(case, run_mlp(case, METAL))


@pytest.mark.host_kernels
def test_chunks_of_more_than_one_block() -> None:
    # 96 chunks of gradients on the host, each of whole blocks of 48 rows
    for rows in (4608, 4609, 6001):
        case = MlpCase(f"{rows}-rows", rows, (16, 16, 3))
        compare_mlp(case, run_mlp(case, HOST))


@pytest.mark.strict
@pytest.mark.parametrize("rows", [31, 32, 33, 64, 70])
@pytest.mark.parametrize("chunks", [1, 2, 64])
@pytest.mark.parametrize("widths", [(32, 64, 16), (16, 80, 3)], ids=str)
def test_scratch_for_a_part_of_the_rows_at_a_time(
    widths: tuple[int, ...], chunks: int, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OP, "_SCRATCH_ROWS", 32)
    monkeypatch.setattr(OP, "_SIMD_CHUNKS", chunks)
    case = MlpCase(f"{rows}-rows", rows, widths, activation="relu")
    compare_mlp(case, run_mlp(case, next(mode for mode in STRICT if mode.simd)))


@pytest.mark.strict
@CASES
def test_lane_order_changes_no_bit(case: MlpCase) -> None:
    first, *others = (run_mlp(case, mode) for mode in STRICT if mode.simd)
    for other in others:
        assert all(torch.equal(value, other[name]) for name, value in first.items())


@pytest.mark.host_kernels
@pytest.mark.parametrize("threads", [2, 3, 8])
def test_more_threads_change_no_bit(threads: int) -> None:
    case = MlpCase("", 20000, (32, 64, 16))
    alone = run_mlp(case, HOST)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        together = run_mlp(case, HOST)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(value, together[name]) for name, value in alone.items())


@KERNEL_MODES
@pytest.mark.parametrize("columns", [24, 7])
def test_rows_may_be_views(columns: int, mode: Mode) -> None:
    given = MlpCase("", 50, (columns, 32, 7)).build()
    want = results(mode, given.x, given.weights, given.grad)
    wide = torch.nn.functional.pad(given.x, (3, 2), value=float("nan"))
    for view in (wide[:, 3:-2], given.x.T.contiguous().T, wide[:, 3:-2].repeat_interleave(2, 0)[1::2]):
        assert not view.is_contiguous()
        got = results(mode, view, given.weights, given.grad.T.contiguous().T)
        assert all(torch.equal(one, two) for one, two in zip(got, want, strict=True))
    one_row = results(mode, given.x[:1].expand(50, columns), given.weights, given.grad)
    copied = results(mode, given.x[:1].repeat(50, 1), given.weights, given.grad)
    assert all(torch.equal(one, two) for one, two in zip(one_row, copied, strict=True))


def results(mode: Mode, x: torch.Tensor, weights: list[torch.Tensor], grad: torch.Tensor) -> list[torch.Tensor]:
    leaves = [x.detach().requires_grad_(), *(w.detach().requires_grad_() for w in weights)]
    with mode.active() as backend:
        y = ops.mlp(leaves[0], leaves[1:], backend=backend)
        return [y.detach(), *torch.autograd.grad(y, leaves, grad)]


@KERNEL_MODES
@pytest.mark.parametrize("widths", [(24, 32, 7), (7, 16, 16, 3), (100, 112, 100)], ids=str)
def test_infinity_stays_in_its_row(widths: tuple[int, ...], mode: Mode) -> None:
    """What a block leaves behind in memory, the padding of the next must not read."""
    case = MlpCase("", 100, widths)
    given = case.build()
    weights = [w.abs() for w in given.weights]
    want = results(mode, given.x, weights, given.grad)
    given.x[0] = float("inf")
    got = results(mode, given.x, weights, given.grad)
    assert got[0][0].isinf().all()
    for one, two in zip(got[:2], want[:2], strict=True):
        assert torch.equal(one[1:], two[1:])


@PLAIN_AND_SIMD
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_what_is_known_is_not_worked_out_again(activation: str, mode: Mode, monkeypatch: pytest.MonkeyPatch) -> None:
    case = MlpCase("", 50, (24, 32, 7), activation=activation)
    given, want = case.build(), run_mlp(case, mode)
    leaves = [t.requires_grad_() for t in (given.x, *given.weights, *given.biases)]
    launched: list[str] = []
    launch = kernels.launch

    def record(name: str, *arguments: object, **how: object) -> None:
        launched.append(name)
        launch(name, *arguments, **how)

    monkeypatch.setattr(kernels, "launch", record)
    for known in (want["y"], torch.nn.functional.pad(want["y"], (1, 2), value=float("nan"))[:, 1:-2]):
        with mode.active() as backend:
            y = ops.mlp(leaves[0], leaves[1:3], leaves[3:], output_activation=activation, known=known, backend=backend)
            grads = torch.autograd.grad(y, leaves, given.grad)
        assert y.data_ptr() == known.data_ptr() and torch.equal(y, want["y"])
        for name, grad in zip(("x", "w0", "w1", "b0", "b1"), grads, strict=True):
            assert torch.equal(grad, want[name]), name
    assert launched
    assert not [name for name in launched if "forward" in name]


def test_known_results_mean_nothing_to_the_reference() -> None:
    given = USUAL.build()
    y = ops.mlp(given.x, given.weights, known=torch.zeros(50, 7), backend="torch")
    assert torch.equal(y, mlp(given.x, given.weights))


@PLAIN_AND_SIMD
def test_only_what_needs_a_gradient_has_one(mode: Mode) -> None:
    given, want = USUAL.build(), run_mlp(USUAL, mode)
    weights = [w.requires_grad_() for w in given.weights]
    with mode.active() as backend:
        y = ops.mlp(given.x, weights, given.biases, output_activation="sigmoid", backend=backend)
        grads = torch.autograd.grad(y, weights, given.grad)
        plain = ops.mlp(given.x, [w.detach() for w in weights], given.biases, backend=backend)
    assert all(torch.equal(grad, want[f"w{i}"]) for i, grad in enumerate(grads))
    assert not plain.requires_grad


def launch_all(case: MlpCase, mode: Mode, per_thread: int, **other: int) -> dict[str, torch.Tensor]:
    """The kernels themselves, with every buffer between guards, each thread of so many rows; x and y have gaps."""
    given, guarded = case.build(), Guarded()
    x_stride, y_stride = case.widths[0] + 3, case.widths[-1] + 2
    pads = [OP._pad(width) for width in case.widths]
    padded = [OP._padded(w, pads[i + 1], pads[i]) for i, w in enumerate(given.weights)]
    weights, weights_t = (torch.cat([w.flatten() for w in ws]) for ws in (padded, [w.T for w in padded]))
    biases = OP._flat_biases(given.x, given.biases or (), pads)
    chunks = max(1, -(-case.rows // per_thread))
    params = {
        "n_rows": case.rows,
        "n_in": case.widths[0],
        "n_out": case.widths[-1],
        "n_hidden": len(case.widths) - 2,
        "pad_in": pads[0],
        "pad_out": pads[-1],
        "width": pads[1],
        "x_stride": x_stride,
        "y_stride": y_stride,
        "n_chunks": chunks,
        "rows_per_thread": per_thread,
        "out_activation": ACTIVATIONS.index(case.activation),
        "has_bias": int(case.bias),
        "has_grad_x": 1,
    } | other
    weights, weights_t, biases, grad = map(guarded.place, (weights, weights_t, biases, given.grad))
    x, y = (guarded.unfilled((max(0, case.rows * n - gap),)) for n, gap in ((x_stride, 3), (y_stride, 2)))
    x_rows, y_rows = x.as_strided(given.x.shape, (x_stride, 1)), y.as_strided(given.grad.shape, (y_stride, 1))
    x_rows.copy_(given.x)
    grad_x = guarded.unfilled(given.x.shape)
    sums = [guarded.unfilled((chunks, n.numel())) if n is weights or case.bias else None for n in (weights, biases)]
    of_rows = [x, weights, weights_t, biases, y if case.activation != "none" else None, grad, grad_x]
    with mode.active() as backend:
        if mode.simd:
            blocks = 32 * -(-case.rows // (16 if max(pads) <= 64 else 8))
            columns = [pads[0] + sum(pads[1:-1]), sum(pads[1:])]
            scratch = [guarded.unfilled((case.rows + 15, n)) for n in columns]
            patches = sum(-(-a // 32) * -(-b // 32) for a, b in itertools.pairwise(pads))
            run = functools.partial(kernels.launch, params=params, backend=backend)
            run("mlp_forward_simd_f32", [x, weights_t, biases, y], grid=(blocks,))
            run("mlp_backward_rows_simd_f32", [*of_rows, *scratch], grid=(blocks,))
            run("mlp_backward_weights_simd_f32", [*scratch, *sums], grid=(chunks * patches * 32,))
        else:
            kernels.launch("mlp_forward_f32", [x, weights_t, biases, y], params, (chunks,), backend=backend)
            kernels.launch("mlp_backward_f32", [*of_rows, *sums], params, (chunks,), backend=backend)
    guarded.check()
    layers = OP._split_layers(sums[0].sum(0), [w.shape for w in given.weights], params)
    assert y.isnan().sum() >= y.numel() - grad.numel()  # between the rows nothing was written
    found = {"y": y_rows, "x": grad_x} | {f"w{i}": layer for i, layer in enumerate(layers)}
    if case.bias:
        parts = sums[1].sum(0).split(pads[1:])
        found |= {f"b{i}": part[:n] for i, (part, n) in enumerate(zip(parts, case.widths[1:], strict=True))}
    return found


@PLAIN_AND_SIMD
@CASES
@pytest.mark.parametrize("per_thread", [8, 48, 10**6])
def test_threads_of_any_size_write_every_result_and_nothing_else(per_thread: int, case: MlpCase, mode: Mode) -> None:
    compare_mlp(case, launch_all(case, mode, per_thread))


@PLAIN_KERNEL_MODES
@CASES
@pytest.mark.parametrize("per_thread", [1, 47])
def test_threads_need_no_whole_blocks(per_thread: int, case: MlpCase, mode: Mode) -> None:
    compare_mlp(case, launch_all(case, mode, per_thread))


@PLAIN_AND_SIMD
@pytest.mark.parametrize(
    "change",
    [
        {"n_hidden": 0},
        {"n_hidden": 5, "width": 0},
        {"width": 8},
        {"width": 0},
        {"pad_in": 24},
        {"pad_in": 16},
        {"pad_out": 15},
        {"n_in": 0},
        {"n_out": 0},
    ],
    ids=str,
)
def test_other_shapes_write_nothing(change: dict[str, int], mode: Mode) -> None:
    case = MlpCase("", 33, (32, 16, 16))
    assert all(result.isnan().all() for result in launch_all(case, mode, 48, **change).values())


@PLAIN_KERNEL_MODES
@pytest.mark.parametrize("per_thread", [1, 7, 100])
@pytest.mark.parametrize(("chunks", "columns"), [(1, 1), (3, 17), (48, 300), (0, 5), (4, 0)])
def test_chunks_are_summed_in_their_order(chunks: int, columns: int, per_thread: int, mode: Mode) -> None:
    guarded = Guarded()
    parts = torch.rand((chunks, columns), generator=torch.Generator().manual_seed(columns))
    sums = guarded.unfilled((columns,))
    params = {"n_chunks": chunks, "n_columns": columns, "columns_per_thread": per_thread}
    with mode.active() as backend:
        grid = (-(-columns // per_thread) + 1,)
        kernels.launch("mlp_sum_f32", [guarded.place(parts), sums], params, grid, backend=backend)
    guarded.check()
    want = torch.zeros(columns)
    for part in parts:
        want += part
    assert torch.equal(sums, want)


def test_block_sizes_are_the_shaders() -> None:
    folder = Path(__file__).resolve().parents[2] / "metal"
    text = "".join(path.read_text() for path in sorted(folder.glob("mlp_simd*.h")))
    found = {name: int(value) for name, value in re.findall(r"constexpr constant uint (\w+) = (\d+)u;", text)}
    side = found["MATRIX_SIDE"]
    assert found["MLP_NARROW"] == OP._NARROW
    assert found["MLP_PATCH"] * side == OP._PATCH
    assert found["MLP_BLOCK"] * side * side == OP._NARROW_BLOCK * OP._NARROW
    assert found["MLP_BLOCK"] * side * side == OP._WIDE_BLOCK * OP.WIDEST
