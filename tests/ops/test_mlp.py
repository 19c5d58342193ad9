"""The fused MLP: values worked by hand on every backend, then the reference, then the kernels against it."""

from __future__ import annotations

import pytest
import torch

from nerf_metal import ops
from nerf_metal.reference import mlp
from nerf_metal.selftest.mlp import ACTIVATIONS, MLP_CASES, MlpCase
from nerf_metal.selftest.modes import Mode
from nerf_metal.selftest.tolerances import EPS, close
from tests.ops.modes import ALL_MODES
from tests.refusals import refusal

CASES = pytest.mark.parametrize("case", MLP_CASES, ids=lambda case: case.name)


# ---- values by hand: three hidden numbers, W1 x + b1 = (3, 1, 4) and (2, 8, -4), that is (2, 8, 0) ----
X = [[1.0, 2.0], [3.0, -1.0]]
WEIGHTS = [[[1.0, 1.0], [2.0, -1.0], [-1.0, 2.0]], [[1.0, -2.0, 3.0], [0.0, 1.0, -1.0]]]
BIASES = [[0.0, 1.0, 1.0], [1.0, -1.0]]
GRAD = [[1.0, 1.0], [2.0, -1.0]]
# W2 h + b2, and back: W2^T g = (1, -1, 2) and (2, -5, 7), the last through a closed gate.
LINEAR = {
    "y": [[14.0, -4.0], [-13.0, 7.0]],
    "x": [[-3.0, 6.0], [-8.0, 7.0]],
    "w0": [[7.0, 0.0], [-16.0, 3.0], [2.0, 4.0]],
    "w1": [[7.0, 17.0, 4.0], [1.0, -7.0, 4.0]],
    "b0": [3.0, -6.0, 2.0],
    "b1": [3.0, 0.0],
}
# Negative results are 0 and have no gradient: W2^T g = (1, -2, 3) and (0, -1, 1).
RELU = {
    "y": [[14.0, 0.0], [0.0, 7.0]],
    "x": [[-6.0, 9.0], [-2.0, 1.0]],
    "w0": [[1.0, 2.0], [-5.0, -3.0], [3.0, 6.0]],
    "w1": [[3.0, 1.0, 4.0], [-2.0, -8.0, 0.0]],
    "b0": [1.0, -3.0, 3.0],
    "b1": [1.0, -1.0],
}


@ALL_MODES
@pytest.mark.parametrize(("activation", "want"), [("none", LINEAR), ("relu", RELU)])
def test_values_and_gradients_worked_by_hand(activation: str, want: dict[str, list[float]], mode: Mode) -> None:
    x, *layers = (torch.tensor(t, requires_grad=True) for t in (X, *WEIGHTS, *BIASES))
    with mode.active() as backend:
        y = ops.mlp(x, layers[:2], layers[2:], output_activation=activation, backend=backend)
        grads = torch.autograd.grad(y, [x, *layers], torch.tensor(GRAD))
    for name, got in zip(("y", "x", "w0", "w1", "b0", "b1"), (y, *grads), strict=True):
        assert torch.equal(got, torch.tensor(want[name])), name


@ALL_MODES
def test_a_sigmoid_worked_by_hand(mode: Mode) -> None:
    # ln 3 and -ln 3 at the output: 3 / 4 and 1 / 4, both with the slope 3 / 16.
    x, bias = torch.zeros(1, 2, requires_grad=True), torch.tensor([3.0, 1.0 / 3.0]).log().requires_grad_()
    with mode.active() as backend:
        y = ops.mlp(
            x,
            [torch.ones(4, 2), torch.ones(2, 4)],
            [torch.ones(4), bias - 4.0],
            output_activation="sigmoid",
            backend=backend,
        )
        (grad,) = torch.autograd.grad(y, bias, torch.tensor([[1.0, 16.0]]))
    close(y, torch.tensor([[0.75, 0.25]]), "y", 8 * EPS)
    close(grad, torch.tensor([3.0 / 16.0, 3.0]), "grad", torch.tensor([8 * EPS, 128 * EPS]))


# ---- the reference ----
def sequential(case: MlpCase) -> torch.nn.Sequential:
    """The same layers as torch has them."""
    given = case.build()
    modules: list[torch.nn.Module] = []
    for i, weight in enumerate(given.weights):
        layer = torch.nn.Linear(*weight.T.shape, bias=case.bias, dtype=torch.float64)
        layer.weight.data.copy_(weight)
        if given.biases is not None:
            layer.bias.data.copy_(given.biases[i])
        modules += [layer, torch.nn.ReLU()]
    last = {"none": torch.nn.Identity(), "relu": torch.nn.ReLU(), "sigmoid": torch.nn.Sigmoid()}
    return torch.nn.Sequential(*modules[:-1], last[case.activation])


@CASES
def test_reference_is_torchs_layers(case: MlpCase) -> None:
    given = case.build()
    weights = [w.double() for w in given.weights]
    biases = None if given.biases is None else [b.double() for b in given.biases]
    got = mlp(given.x.double(), weights, biases, output_activation=case.activation)
    assert torch.equal(got, sequential(case)(given.x.double()))


def test_reference_hidden_layers_are_relus() -> None:
    # |x| = relu(x) + relu(-x), and twice over for the second layer
    x = torch.linspace(-2.0, 2.0, 9, dtype=torch.float64)[:, None]
    split, join = torch.tensor([[1.0], [-1.0]]).double(), torch.tensor([[1.0, 1.0]]).double()
    assert torch.equal(mlp(x, [split, join]), x.abs())
    assert torch.equal(mlp(x, [split, torch.eye(2).double(), -join]), -x.abs())
    assert torch.equal(mlp(x, [split, -join], output_activation="relu"), torch.zeros_like(x))
    assert torch.equal(mlp(x, [split, join], output_activation="sigmoid"), torch.sigmoid(x.abs()))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("hidden", [1, 4])
def test_reference_gradients_are_finite_differences(hidden: int, bias: bool, activation: str) -> None:
    given = MlpCase("", 5, (3, *[6] * hidden, 2), bias, activation).build()
    leaves = [t.double().requires_grad_() for t in (given.x, *given.weights, *(given.biases or ()))]
    layers = hidden + 1

    def call(x: torch.Tensor, *tensors: torch.Tensor) -> torch.Tensor:
        return mlp(x, tensors[:layers], tensors[layers:] or None, output_activation=activation)

    assert torch.autograd.gradcheck(call, leaves)


# ---- bad arguments ----
W = [torch.zeros(8, 4), torch.zeros(8, 8), torch.zeros(3, 8)]
B = [torch.zeros(8), torch.zeros(8), torch.zeros(3)]


@pytest.mark.parametrize(
    ("change", "error", "name", "value"),
    [
        ({"x": [1.0]}, TypeError, "x", "list"),
        (
            {"x": torch.zeros(5, 4, dtype=torch.int64)},
            TypeError,
            "x",
            "torch.int64",
        ),
        ({"x": torch.zeros(4)}, ValueError, "x", "(4,)"),
        ({"weights": W[:1]}, ValueError, "weights", "1"),
        ({"weights": [*W[:2], *W[1:2] * 4]}, ValueError, "weights", "6"),
        ({"weights": [W[0], 2.0, W[2]]}, TypeError, "weights[1]", "float"),
        ({"weights": [None, *W[1:]]}, TypeError, "weights[0]", "NoneType"),
        ({"weights": [W[0], W[1], torch.zeros(3)]}, ValueError, "weights[2]", "(3,)"),
        ({"x": torch.zeros(5, 3)}, ValueError, "weights[0]", "(8, 4)"),
        ({"weights": [W[0], torch.zeros(9, 8), W[2]]}, ValueError, "weights[1]", "(9, 8)"),
        ({"weights": [W[0], W[1], torch.zeros(3, 9)]}, ValueError, "weights[2]", "(3, 9)"),
        (
            {"weights": [W[0], W[1].double(), W[2]]},
            TypeError,
            "weights[1]",
            "torch.float64",
        ),
        (
            {"weights": [W[0], W[1].to("meta"), W[2]]},
            ValueError,
            "weights[1]",
            "meta",
        ),
        (
            {"weights": [torch.zeros(129, 4), torch.zeros(3, 129)], "biases": None},
            ValueError,
            "weights[0]",
            "129x4",
        ),
        (
            {"weights": [W[0], torch.zeros(0, 8)], "biases": None},
            ValueError,
            "weights[1]",
            "0x8",
        ),
        ({"biases": B[:2]}, ValueError, "biases", "2"),
        ({"biases": [B[0], None, B[2]]}, TypeError, "biases[1]", "NoneType"),
        ({"biases": [B[0], B[1], B[1]]}, ValueError, "biases[2]", "(8,)"),
        ({"known": torch.zeros(5, 4)}, ValueError, "known", "(5, 4)"),
        (
            {"output_activation": "tanh"},
            ValueError,
            "output_activation",
            "tanh",
        ),
        ({"backend": "cuda"}, ValueError, "backend", "cuda"),
        (
            {
                "x": torch.zeros(5, 4).half(),
                "weights": [w.half() for w in W],
                "biases": None,
                "backend": "host",
            },
            TypeError,
            "x",
            "torch.float16",
        ),
    ],
)
def test_op_refuses_by_name_and_value(change: dict[str, object], error: type[Exception], name: str, value: str) -> None:
    with pytest.raises(error, match=refusal("mlp", name, value)):
        ops.mlp(**({"x": torch.zeros(5, 4), "weights": W, "biases": B} | change))


def test_auto_leaves_other_float_types_to_the_reference() -> None:
    y = ops.mlp(torch.zeros(2, 4, dtype=torch.float64), [w.double() for w in W])
    assert y.dtype == torch.float64
