"""Named inputs of the fused MLP, and what its results must be: the reference in float64, and how far off is right."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch

from nerf_metal import ops
from nerf_metal.reference import mlp
from nerf_metal.selftest.modes import Mode
from nerf_metal.selftest.tolerances import SIGMOID, SIGMOID_SLOPE, TINY, all_close, require
from nerf_metal.util.rounding import DEVIATIONS, products

ACTIVATIONS = ("none", "relu", "sigmoid")


class MlpInputs(NamedTuple):
    """Arguments, and dL/dy of some loss."""

    x: torch.Tensor
    weights: list[torch.Tensor]
    biases: list[torch.Tensor] | None
    grad: torch.Tensor


@dataclass(frozen=True)
class MlpCase:
    """Normally distributed numbers; weights so that activations of all layers are as large as ``x``."""

    name: str
    rows: int
    widths: tuple[int, ...]
    bias: bool = True
    activation: str = "none"
    scale: float = 1.0

    def build(self) -> MlpInputs:
        """The same numbers every time."""
        random = torch.Generator().manual_seed(self.rows + sum(self.widths))

        def draw(*shape: int) -> torch.Tensor:
            return torch.randn(shape, generator=random)

        weights = [draw(out, into) * (2.0 / into) ** 0.5 for into, out in itertools.pairwise(self.widths)]
        biases = [0.3 * self.scale * draw(out) for out in self.widths[1:]]
        x, grad = draw(self.rows, self.widths[0]) * self.scale, draw(self.rows, self.widths[-1])
        return MlpInputs(x, weights, biases if self.bias else None, grad)


# A host thread takes blocks of 48 rows, 960 in all; a SIMD-group 16, or 8 where a layer is wider than 64.
MLP_CASES = (
    *(MlpCase(f"{n}-rows", n, (32, 64, 16)) for n in (0, 1, 15, 16, 17, 33, 47, 48, 49, 1000)),
    *(MlpCase(f"{n}-rows-wide", n, (96, 96, 16), bias=False) for n in (1, 7, 8, 9, 49)),
    *(MlpCase(f"width-{n}", 50, (16, n, 16), bias=n % 32 == 0) for n in range(16, 129, 16)),
    *(MlpCase(f"{i}-in-{o}-out", 33, (i, 16, o)) for i, o in ((1, 1), (3, 7), (7, 24), (24, 31), (31, 3), (128, 128))),
    *(MlpCase(f"width-{n}-not-whole", 33, (24, n, n, 5), activation="relu") for n in (1, 17, 63, 65, 127)),
    *(MlpCase(f"{n}-hidden", 33, (32, *[48] * n, 16), bias=n > 2) for n in (1, 2, 3, 4)),
    *(MlpCase(f"{n}-hidden-wide", 17, (32, *[80] * n, 100), activation="relu") for n in (1, 2, 3, 4)),
    *(
        MlpCase(f"{activation}-{'with' if bias else 'no'}-biases", 100, (32, 64, 64, 3), bias, activation)
        for activation in ACTIVATIONS
        for bias in (False, True)
    ),
    MlpCase("huge", 33, (32, 32, 16), scale=1e15),
    MlpCase("tiny", 33, (32, 32, 16), scale=1e-20),
    MlpCase("saturated", 33, (32, 32, 16), activation="sigmoid", scale=100.0),
)


class MlpExpected(NamedTuple):
    """By name: ``y``, the gradients of ``x``, and of ``w0``, ``b0``, ..."""

    values: dict[str, torch.Tensor]
    tolerance: dict[str, torch.Tensor]


class Uncertain(NamedTuple):
    """Numbers, and the standard deviation of what rounding does to each."""

    value: torch.Tensor
    deviation: torch.Tensor

    def times(self, b: Uncertain, bias: torch.Tensor | float = 0.0) -> Uncertain:
        """The matrices' product plus a bias."""
        value = self.value @ b.value + bias
        size = self.value.abs() @ b.value.abs() + torch.as_tensor(bias).abs()
        variance = self.deviation**2 @ b.value**2 + (self.value**2 + self.deviation**2) @ b.deviation**2
        return Uncertain(value, (variance + (products(self.value.shape[1]) * size + TINY) ** 2).sqrt())

    def where_positive(self, argument: Uncertain) -> Uncertain:
        """A ReLU's gradient: where rounding decides the argument's sign it passes or not."""
        either = argument.value.abs() <= DEVIATIONS * argument.deviation
        value = self.value.masked_fill(argument.value <= 0, 0.0)
        deviation = self.deviation.masked_fill(argument.value <= 0, 0.0)
        return Uncertain(value, torch.where(either, self.deviation + self.value.abs(), deviation))

    def transposed(self) -> Uncertain:
        """Rows for columns."""
        return Uncertain(self.value.T, self.deviation.T)


def exact(value: torch.Tensor) -> Uncertain:
    """In float64, without any doubt."""
    return Uncertain(value.double(), torch.zeros_like(value, dtype=torch.float64))


@functools.cache
def mlp_expected(case: MlpCase) -> MlpExpected:
    """The results in float64; the deviation of each layer's numbers is carried through those behind it."""
    given = case.build()
    weights = [exact(w) for w in given.weights]
    biases = [torch.zeros(()).double()] * len(weights) if given.biases is None else [b.double() for b in given.biases]
    inputs, arguments = [exact(given.x)], []
    for w, b in zip(weights, biases, strict=True):
        arguments.append(inputs[-1].times(w.transposed(), b))
        inputs.append(Uncertain(arguments[-1].value.relu(), arguments[-1].deviation))
    last, grad = arguments[-1], exact(given.grad)
    y = Uncertain(
        mlp(
            given.x.double(),
            [w.value for w in weights],
            None if given.biases is None else biases,
            output_activation=case.activation,
        ),
        last.deviation,
    )
    if case.activation == "sigmoid":
        slope = y.value * (1.0 - y.value)
        # between here and where the argument may be, the slope grows by e^deviation at most
        y = Uncertain(y.value, slope * last.deviation.exp() * last.deviation + SIGMOID * y.value + TINY)
        of_slope = y.deviation * ((1.0 - 2.0 * y.value).abs() + y.deviation) + SIGMOID_SLOPE * slope
        grad = Uncertain(grad.value * slope, grad.value.abs() * of_slope + TINY)
    elif case.activation == "relu":
        grad = grad.where_positive(last)
    found = {"y": y}
    for layer in reversed(range(len(weights))):
        found[f"w{layer}"] = grad.transposed().times(inputs[layer])
        if given.biases is not None:
            ones = exact(torch.ones(len(given.x), 1))
            found[f"b{layer}"] = Uncertain(*(part[:, 0] for part in grad.transposed().times(ones)))
        grad = grad.times(weights[layer])
        if layer > 0:
            grad = grad.where_positive(arguments[layer - 1])
    found["x"] = grad
    return MlpExpected(
        {name: each.value for name, each in found.items()},
        {name: DEVIATIONS * each.deviation for name, each in found.items()},
    )


def run_mlp(case: MlpCase, mode: Mode) -> dict[str, torch.Tensor]:
    """Results and gradients by name."""
    given = case.build()
    leaves = {"x": mode.place(given.x).requires_grad_()}
    leaves |= {f"w{i}": mode.place(w).requires_grad_() for i, w in enumerate(given.weights)}
    if given.biases is not None:
        leaves |= {f"b{i}": mode.place(b).requires_grad_() for i, b in enumerate(given.biases)}
    weights, biases = ([leaf for name, leaf in leaves.items() if name[0] == kind] for kind in "wb")
    with mode.active() as backend:
        y = ops.mlp(leaves["x"], weights, biases or None, output_activation=case.activation, backend=backend)
        grads = torch.autograd.grad(y, list(leaves.values()), mode.place(given.grad))
    return {"y": y.detach(), **dict(zip(leaves, grads, strict=True))}


def compare_mlp(case: MlpCase, got: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Worst errors over tolerance."""
    want = mlp_expected(case)
    require(got.keys() == want.values.keys(), f"{case.name} must give {sorted(want.values)}, got {sorted(got)}")
    return all_close(got, want.values, want.tolerance, case.name)
