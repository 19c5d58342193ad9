"""Adam: steps worked by hand on every backend, what the reference must hold, and the op's refusals."""

from __future__ import annotations

import math

import pytest
import torch

from nerf_metal import ops
from nerf_metal.reference import adam_step
from nerf_metal.selftest.adam import BETA1, BETA2, EPSILON, Table
from nerf_metal.selftest.modes import Mode
from nerf_metal.selftest.tolerances import EPS, FLOAT64, close
from tests.ops.modes import ALL_PLAIN_MODES
from tests.refusals import refusal


# ---- steps by hand ----
@ALL_PLAIN_MODES
def test_the_first_step_goes_by_the_sign_of_the_gradient(mode: Mode) -> None:
    # From moments of 0 both corrections cancel the weights: m / (1 - beta1) = g, v / (1 - beta2) = g^2, so that each
    # value with a gradient moves by lr against its sign, however large it is.
    param, grad = torch.tensor([1.0, 2.0, -3.0, 0.5, 4.0]), torch.tensor([0.5, 0.0, -2.0, -0.0, 1e-6])
    exp_avg, exp_avg_sq = torch.zeros(5), torch.zeros(5)
    half = torch.full((5,), 7.0, dtype=torch.float16)
    with mode.active() as backend:
        ops.adam_step(param, grad, exp_avg, exp_avg_sq, step=1, lr=0.125, half_copy=half, backend=backend)
    close(param, torch.tensor([0.875, 2.0, -2.875, 0.5, 3.875]), "param", 4 * EPS)
    close(exp_avg, torch.tensor([0.05, 0.0, -0.2, 0.0, 1e-7]), "exp_avg", EPS)
    close(exp_avg_sq, torch.tensor([0.0025, 0.0, 0.04, 0.0, 1e-14]), "exp_avg_sq", EPS)
    assert half.tolist() == [0.875, 7.0, -2.875, 7.0, 3.875] and not grad.any()


@ALL_PLAIN_MODES
def test_the_second_step_of_a_value_without_a_gradient(mode: Mode) -> None:
    # m = 0.9 x 0.05 = 0.045 over 1 - 0.81 = 0.19; v = 0.99 x 0.0025 = 0.002475 over 1 - 0.9801 = 0.0199:
    # 0.2368421 / sqrt(0.1243719) = 0.6715802, where every value is stepped. Else nothing happens.
    for sparse, want in ((False, [0.9 - 0.06715802, 0.045, 0.002475]), (True, [0.9, 0.05, 0.0025])):
        param, grad, exp_avg, exp_avg_sq = (torch.tensor([x]) for x in (0.9, 0.0, 0.05, 0.0025))
        with mode.active() as backend:
            ops.adam_step(param, grad, exp_avg, exp_avg_sq, step=2, lr=0.1, sparse=sparse, backend=backend)
        close(torch.cat((param, exp_avg, exp_avg_sq)), torch.tensor(want), "step", 1e-8 + EPS)


# ---- the reference ----
def reference_steps(gradients: torch.Tensor, **options: object) -> Table:
    """From values of 1 and moments of 0, one step for each row."""
    count = gradients.shape[1]
    table = Table(*(torch.full((count,), x, dtype=torch.float64) for x in (1.0, 0.0, 0.0, 0.0)))
    for step, grad in enumerate(gradients, 1):
        table.grad.copy_(grad)
        adam_step(*table.each()[:4], step=step, lr=0.01, **options)
    return table


def gradients(steps: int = 30, count: int = 50) -> torch.Tensor:
    return torch.randn((steps, count), generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def test_reference_without_sparsity_is_torchs_adam() -> None:
    drawn = gradients()
    drawn[::3, ::2] = 0.0
    param = torch.ones(drawn.shape[1], dtype=torch.float64, requires_grad=True)
    theirs = torch.optim.Adam([param], lr=0.01, betas=(BETA1, BETA2), eps=EPSILON)
    for grad in drawn:
        param.grad = grad.clone()
        theirs.step()
    ours = reference_steps(drawn, sparse=False)
    state = theirs.state[param]
    close(ours.param, param, "param", FLOAT64)
    close(ours.exp_avg, state["exp_avg"], "exp_avg", FLOAT64)
    close(ours.exp_avg_sq, state["exp_avg_sq"], "exp_avg_sq", FLOAT64)


def test_reference_treats_gradients_other_than_zero_alike() -> None:
    sparse, dense = reference_steps(gradients(), sparse=True), reference_steps(gradients(), sparse=False)
    for one, two in zip(sparse.each()[:4], dense.each()[:4], strict=True):
        assert one is not None and two is not None and torch.equal(one, two)


def test_reference_steps_do_not_depend_on_the_gradients_scale() -> None:
    # Kingma and Ba 2015, section 2.1
    one, other = reference_steps(gradients()), reference_steps(gradients() * 1e6)
    close(other.param, one.param, "param", 1e-8)  # eps is 1e-15 of gradients of 1


def test_reference_leaves_entries_alone_until_their_gradient_comes() -> None:
    drawn = gradients()
    late = drawn.clone()
    late[:20, 10:] = 0.0
    table = reference_steps(late[:20])
    assert (table.param[10:] == 1).all() and not table.exp_avg[10:].any() and not table.exp_avg_sq[10:].any()
    whole, early = reference_steps(late), reference_steps(drawn)
    assert torch.equal(whole.param[:10], early.param[:10])
    assert (whole.param[10:] != 1).all()


@pytest.mark.parametrize("clear_grad", [False, True])
def test_reference_clears_the_gradient_if_asked(clear_grad: bool) -> None:
    table = reference_steps(gradients(3), clear_grad=clear_grad)
    assert torch.equal(table.grad, torch.zeros(50, dtype=torch.float64) if clear_grad else gradients(3)[-1])


# ---- bad arguments ----
def good() -> dict[str, object]:
    names = ("param", "grad", "exp_avg", "exp_avg_sq")
    return {name: torch.zeros(4, 2) for name in names} | {"step": 1, "lr": 0.1}


@pytest.mark.parametrize(
    ("change", "error", "name", "value"),
    [
        ({"param": None}, TypeError, "param", "NoneType"),
        ({"grad": torch.zeros(8)}, ValueError, "grad", "(8,)"),
        (
            {"exp_avg": torch.zeros(4, 2).half()},
            TypeError,
            "exp_avg",
            "torch.float16",
        ),
        (
            {"exp_avg_sq": torch.zeros(4, 2, device="meta")},
            ValueError,
            "exp_avg_sq",
            "meta",
        ),
        (
            {"grad": torch.zeros(2, 4).T},
            ValueError,
            "grad",
            "(1, 4)",
        ),
        (
            {"grad": torch.zeros(4, 2).to_sparse()},
            ValueError,
            "grad",
            "torch.sparse_coo",
        ),
        ({"half_copy": 1}, TypeError, "half_copy", "int"),
        (
            {"half_copy": torch.zeros(4, 2)},
            TypeError,
            "half_copy",
            "torch.float32",
        ),
        (
            {"half_copy": torch.zeros(8).half()},
            ValueError,
            "half_copy",
            "(8,) on cpu",
        ),
        (
            {"half_copy": torch.zeros(2, 4).half().T},
            ValueError,
            "half_copy",
            "(1, 4)",
        ),
        ({"step": 0}, ValueError, "step", "0"),
        ({"step": 1.0}, TypeError, "step", "float"),
        *(({"lr": lr}, ValueError, "lr", str(lr)) for lr in (-1.0, math.nan, math.inf)),
        *(({"beta1": b}, ValueError, "beta1", str(b)) for b in (-0.1, 1.0, math.nan)),
        ({"beta2": 1.0}, ValueError, "beta2", "1.0"),
        *(({"eps": e}, ValueError, "eps", str(e)) for e in (0.0, -1.0, math.nan)),
        ({"backend": "cuda"}, ValueError, "backend", "cuda"),
        (
            {name: torch.zeros(4, 2).half() for name in ("param", "grad", "exp_avg", "exp_avg_sq")},
            TypeError,
            "param",
            "torch.float16",
        ),
    ],
)
def test_op_refuses_by_name_and_value(change: dict[str, object], error: type[Exception], name: str, value: str) -> None:
    with pytest.raises(error, match=refusal("adam_step", name, value)):
        ops.adam_step(**(good() | change))


def test_the_arguments_are_good_before_they_are_changed() -> None:
    ops.adam_step(**good(), backend="host")
    double = {k: v.double() if isinstance(v, torch.Tensor) else v for k, v in good().items()}
    ops.adam_step(**double)  # auto: the reference
