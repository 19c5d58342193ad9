"""The check of weight gradients at the start of a run: what is wrong is found, named and avoided; rounding is not."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.corrupted_linear import corrupted_linear
from nerf_metal import ops
from nerf_metal.models import matmul_check
from nerf_metal.models.coarse_fine import model as coarse_fine
from nerf_metal.models.coarse_fine.field import CPU_ROWS, MAX_ROWS
from nerf_metal.models.matmul_check import check_mlp_gradients, check_weight_gradients
from nerf_metal.models.memory import chunk_rays
from nerf_metal.train.options import preset_config
from tests.stepping import Stepper, fresh_model

CPU = torch.device("cpu")
BOX = torch.tensor([[-1.0] * 3, [1.0] * 3])
LAYERS = [(21, 32), (32, 32), (53, 32), (32, 1)]
FAST = [(32, 64, 16), (32, 64, 64, 3)]


def check(layers=LAYERS, rows_cut=8192, rows_whole=0, **options) -> matmul_check.MatmulFinding:
    return check_weight_gradients(layers, rows_cut=rows_cut, rows_whole=rows_whole, device=CPU, **options)


@pytest.mark.parametrize("preset", ["small", "classic", "fast"])
def test_a_preset_is_right_here(preset) -> None:
    model = fresh_model(preset_config(preset), BOX)
    check(LAYERS[:1], 256)  # torch's first backward starts threads
    started = time.perf_counter()
    finding = model.self_test()
    assert finding.usable and finding.rows_wrong is None and finding.error is None
    assert finding.rows_used == (65536 if preset == "fast" else CPU_ROWS)
    assert finding.seconds <= time.perf_counter() - started
    assert f"weight gradients of {finding.layers} in calls of {finding.rows_used} rows (" in finding.sentence()
    if preset == "fast":
        assert finding.tested == ((65536, 32, 16), (65536, 32, 3))
    else:
        assert {model.field.fine.max_rows, model.field.coarse.max_rows} == {MAX_ROWS}
        shapes = {(m.in_features, m.out_features) for m in model.modules() if isinstance(m, torch.nn.Linear)}
        assert {call[1:] for call in (*finding.tested, *finding.untested)} == shapes


def test_it_draws_nothing() -> None:
    """A step's draws are its own; weights are drawn from torch's random state."""
    before = torch.get_rng_state()
    check(rows_cut=300)
    check_mlp_gradients(FAST, rows=300, device=CPU, backend="auto")
    assert torch.equal(torch.get_rng_state(), before)


def test_calls_that_are_not_made_are_told_of() -> None:
    """As on an M1 with torch 2.13: the run's own calls are right."""
    with corrupted_linear() as memory:
        finding = check([(21, 16), (16, 1)], MAX_ROWS, 131_072, seconds=60.0)
    assert memory.corrupted == 1
    assert finding.usable and finding.rows_used == MAX_ROWS and finding.rows_wrong == 131_072
    assert finding.error > 1.0 and finding.wrong == "weight gradients"
    assert finding.tested == ((MAX_ROWS, 21, 16), (MAX_ROWS, 16, 1), (131_072, 21, 16))
    mac = {"device": "mps", "torch": "2.13.0"}
    on_a_mac = dataclasses.replace(finding, **mac).sentence()
    assert on_a_mac.startswith(
        "torch 2.13.0 on mps computes wrong weight gradients of Linear in calls of 131072 rows: "
    )
    assert "(pytorch #177116, #193487)" in on_a_mac and "torch 2.14 fixes it." in on_a_mac
    assert "Calls of 32766 rows are correct" in on_a_mac
    for other in ({"torch": "2.14.0"}, {"device": "cuda"}, {"wrong": "outputs"}):
        said = dataclasses.replace(finding, **mac | other).sentence()
        assert "(like pytorch #177116" in said and "please report it" in said and "fixes" not in said
    assert json.loads(json.dumps(finding.evidence(), allow_nan=False)) == {
        "rows_wrong": 131_072,
        "error": finding.error,
        "rows_used": MAX_ROWS,
        "torch": str(torch.__version__),
        "device": "cpu",
    }


def test_whole_batches_are_tried_up_to_a_size() -> None:
    assert check([(16, 16)], 8192, 10**9, seconds=60.0).tested == ((8192, 16, 16), (131_072, 16, 16))


def test_odd_numbers_of_rows_become_powers_of_two() -> None:
    with corrupted_linear(limit=20_000):
        assert check([(16, 16)], MAX_ROWS).rows_used == 16_384


@pytest.mark.parametrize(("limit", "rows"), [(8192, 4096), (8191, 4096), (4096, 2048), (1000, 512), (257, 256)])
def test_calls_are_halved_until_they_are_right(limit, rows) -> None:
    with corrupted_linear(limit=limit):
        finding = check(seconds=0.0)  # the search is not cut short
    assert finding.usable and finding.rows_used == rows and finding.rows_wrong == (8192 if rows == 4096 else 2 * rows)
    assert set(LAYERS) == {(into, out) for count, into, out in finding.tested if count == rows}  # all are right there


@pytest.mark.parametrize(("limit", "least_rows"), [(1, 1), (256, 1), (1000, 513)])
def test_where_no_calls_are_right_there_is_no_run(limit, least_rows) -> None:
    """Smaller ones than one ray cannot be made."""
    with corrupted_linear(limit=limit):
        finding = check(least_rows=least_rows)
    assert not finding.usable and finding.rows_used == 0 and finding.rows_wrong == (1024 if least_rows > 1 else 256)
    assert "use another version of torch" in finding.sentence()
    on_a_mac = dataclasses.replace(finding, device="mps", torch="2.13.0").sentence()
    assert "use --device cpu or another version of torch. torch 2.14 fixes it." in on_a_mac


def gradients(stepper: Stepper) -> list[torch.Tensor]:
    """Of a second step: the first leaves in memory what the second finds there."""
    for step in range(2):
        stepper.step(step, lr=0.0)
    return [parameter.grad.clone() for parameter in stepper.model.parameters() if parameter.requires_grad]


def test_a_step_of_the_cut_field_is_right(cube_scene, tiny_config) -> None:
    """The same step, with torch as it should be, with the fault, and with the fault and the check."""
    config = dataclasses.replace(tiny_config, hidden_width=32, batch_rays=512, num_samples=8, num_importance=8)

    def prepared() -> Stepper:
        return Stepper(dataclasses.replace(config, tight_box=False), cube_scene)

    want = gradients(prepared())
    sizes = [5e-5 * float(grad.abs().max()) for grad in want]  # sums of a batch in other parts: 200 EPS and more
    with corrupted_linear(limit=3000) as memory:
        wrong = gradients(prepared())
        assert memory.corrupted > 0
        worst = max(float((a - b).abs().max()) / size for a, b, size in zip(wrong, want, sizes, strict=True))
        assert worst > 1e5  # as with torch 2.13 on an M1
        stepper = prepared()
        model = stepper.model
        finding = model.self_test()
        memory.corrupted = 0
        right = gradients(stepper)
    assert finding.rows_used == 2048 == model.field.coarse.max_rows == model.field.fine.max_rows
    assert memory.corrupted == 0
    for a, b, size in zip(right, want, sizes, strict=True):
        torch.testing.assert_close(a, b, rtol=0.0, atol=size)
    assert chunk_rays(4.0, 0, model.field, model.sampler) == 2048 // 16
    assert model.self_test().rows_used == 2048  # asked again, it looks at the calls that are made now


@pytest.mark.parametrize(("device", "cut", "whole"), [("cpu", CPU_ROWS, CPU_ROWS), ("meta", MAX_ROWS, 4096 * 192)])
def test_a_gpu_is_also_asked_for_calls_that_are_not_cut(monkeypatch, device, cut, whole) -> None:
    """Elsewhere than on a CPU; a device that computes nothing stands for it here."""
    asked = {}

    def noted(_layers, **options):
        asked.update(options)
        return check(rows_cut=256)

    monkeypatch.setattr(coarse_fine, "check_weight_gradients", noted)
    model = fresh_model(preset_config("classic"), BOX)
    model.to(torch.device(device))
    model.self_test()
    assert asked == {"rows_cut": cut, "rows_whole": whole, "device": torch.device(device), "least_rows": 192}


def test_a_field_is_not_cut_below_one_ray(cube_scene, tiny_config) -> None:
    """Calls of 256 rows would be right, but a ray has 308."""
    model = fresh_model(dataclasses.replace(tiny_config, num_importance=300), cube_scene.aabb)
    with corrupted_linear(limit=300):
        assert not model.self_test().usable
    assert model.field.fine.max_rows == MAX_ROWS


Change = Callable[[torch.Tensor], torch.Tensor]


def altered_linear(shape: tuple[int, int], *, of_x: Change = torch.clone, **of: Change) -> Callable[..., torch.Tensor]:
    """``F.linear`` with changed results, by name, where the weight has this shape; ``of_x``: the weight gradient's."""
    linear = F.linear

    class Altered(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *args):
            ctx.save_for_backward(*args)
            return of.get("outputs", torch.clone)(linear(*args))

        @staticmethod
        def backward(ctx, grad):
            x, weight, _ = ctx.saved_tensors
            right = {"inputs": grad @ weight, "weights": grad.T @ of_x(x), "biases": grad.sum(0)}
            return tuple(of.get(name, torch.clone)(x) for name, x in right.items())

    return lambda *args: Altered.apply(*args) if args[1].shape == shape else linear(*args)


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ("outputs", "outputs"),
        ("inputs", "input gradients"),
        ("weights", "weight gradients"),
        ("biases", "bias gradients"),
    ],
)
@pytest.mark.parametrize("value", [1.001, float("nan"), float("inf")])
def test_one_wrong_entry_of_one_shape_is_found(monkeypatch, wrong, name, value) -> None:
    """A thousandth of it."""

    def spoil(x: torch.Tensor) -> torch.Tensor:
        x.view(-1)[x.argmax()] *= value
        return x

    rows = 8192 if wrong in ("weights", "biases") else 1021  # of outputs and inputs' gradients the last are looked at
    with monkeypatch.context() as patch:
        patch.setattr(F, "linear", altered_linear((32, 53), **{wrong: spoil}))
        finding = check(rows_cut=rows)
    assert not finding.usable and finding.wrong == name
    if value == 1.001:
        assert finding.error == pytest.approx(1e-3, rel=0.01)
    else:
        assert finding.error == float("inf") and finding.evidence()["error"] is None
        assert "not finite" in finding.sentence()
    assert check(rows_cut=rows).usable


@pytest.mark.parametrize(
    "of_x",
    [lambda x: torch.cat((x[:-1], 0 * x[-1:])), lambda x: x.roll(4096, 0), lambda x: x.roll(1, 0)],
    ids=["last-left-out", "half-by-half", "next-one"],
)
def test_rows_left_out_or_taken_for_others_are_found(monkeypatch, of_x) -> None:
    """As by a product that counts its rows in tiles."""
    monkeypatch.setattr(F, "linear", altered_linear((32, 53), of_x=of_x))
    finding = check(seconds=60.0)
    assert finding.rows_wrong is not None and finding.wrong == "weight gradients"


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    layers=st.lists(st.tuples(st.integers(1, 96), st.integers(1, 96)), min_size=1, max_size=3),
    rows=st.integers(1, 9000),
)
def test_rounding_is_no_fault(seed, layers, rows) -> None:
    finding = check(layers, rows, seed=seed, seconds=60.0)
    assert finding.rows_wrong is None and not finding.untested


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    widths=st.tuples(st.integers(1, 64), st.integers(1, 64), st.integers(1, 4), st.integers(1, 64)),
    rows=st.integers(1, 9000),
    backend=st.sampled_from(["host", "torch"]),
)
def test_rounding_of_the_fused_network_is_no_fault(seed, widths, rows, backend) -> None:
    into, width, depth, out = widths
    network = (into, *[width] * depth, out)
    assert check_mlp_gradients([network], rows=rows, device=CPU, backend=backend, seed=seed).usable


def test_seconds_are_kept(monkeypatch) -> None:
    """What will not fit is left out, and what is smaller still comes."""
    now = 0.0
    linear_results = matmul_check._linear_results

    def slow(rows, into, out, device, seed):
        nonlocal now
        now += 0.3 if rows == 1 else 1e-7 * rows * into * out
        return linear_results(rows, into, out, device, seed)

    monkeypatch.setattr(matmul_check, "_linear_results", slow)
    layers = [(8, 8), (32, 16), (16, 16), (16, 8)]  # 0.42, 0.21, 0.105, 0.05 s
    finding = check(layers, 8192, 100_000, clock=lambda: now)
    assert finding.tested == ((8192, 32, 16), (8192, 16, 16), (8192, 8, 8))
    assert finding.untested == ((8192, 16, 8), (100_000, 32, 16), (100_000, 16, 16))
    assert finding.seconds == pytest.approx(now) and now <= 1.0
    assert "(3 of 6 shapes tested in 0.98 s)" in finding.sentence()


@pytest.mark.parametrize("layer", [1, 2, 3])
def test_a_wrong_fused_network_is_found(monkeypatch, layer) -> None:
    """A thousandth of one entry of one weight gradient; there is no smaller call."""
    mlp = ops.mlp

    class Spoilt(torch.autograd.Function):
        @staticmethod
        def forward(ctx, weight):
            return weight.view_as(weight)

        @staticmethod
        def backward(ctx, grad):
            grad = grad.clone()
            grad.view(-1)[grad.argmax()] *= 1.001
            return grad

    def spoilt(x, weights, **options):
        weights = [Spoilt.apply(w) if i == layer - 1 and len(weights) == 3 else w for i, w in enumerate(weights)]
        return mlp(x, weights, **options)

    monkeypatch.setattr(ops, "mlp", spoilt)
    finding = check_mlp_gradients(FAST, rows=65536, device=CPU, backend="auto")
    assert not finding.usable and finding.rows_wrong == 65536 and finding.wrong == "weight gradients"
    assert finding.error == pytest.approx(1e-3, rel=0.01)
    assert finding.sentence().count("the fused networks (backend host)") == 1


def test_fused_networks_computed_by_torch_are_checked_too() -> None:
    """With --backend torch they are layers of ``Linear``, and as wrong as these."""
    config = dataclasses.replace(preset_config("fast"), backend="torch", batch_samples=4096, log2_table_size=10)
    with corrupted_linear(limit=4096):
        finding = fresh_model(config, BOX).self_test()
    assert not finding.usable and finding.rows_wrong == 4096 and "(backend torch)" in finding.layers


def test_the_model_of_the_fault() -> None:
    """Gradients of size 1e-6 behind activations of size 1, as in the issues: 1e3 to 1e5 times too large, or right."""
    torch.manual_seed(0)
    x, weight, bias = torch.randn(33_000, 24), torch.randn(16, 24), torch.randn(16)
    grad = 1e-6 * torch.randn(33_000, 16)

    def run(rows: int) -> list[torch.Tensor]:
        leaves = [t.clone().requires_grad_() for t in (x[:rows], weight, bias)]
        y = F.linear(*leaves)
        return [y.detach(), *torch.autograd.grad(y, leaves, grad[:rows])]

    want = run(32_767)
    with corrupted_linear() as memory:
        for rows, corrupted in ((32_767, 0), (33_000, 0), (32_766, 0), (32_767, 1)):
            got = run(rows)
            assert memory.corrupted == corrupted  # only behind a larger call
    for name in (0, 1, 3):
        torch.testing.assert_close(got[name], want[name])
    assert 1e3 < float((got[2] / want[2]).abs().median()) < 1e5
    with corrupted_linear(limit=1000):
        layer = torch.nn.Linear(8, 64)  # a side of less than a tile is right
        for rows in (2000, 1000):
            layer.zero_grad()
            layer(x[:rows, :8]).sum().backward()
        torch.testing.assert_close(layer.weight.grad, x[:1000, :8].sum(0).expand(64, 8), rtol=1e-3, atol=1e-3)
