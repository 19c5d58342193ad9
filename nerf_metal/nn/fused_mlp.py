"""A small network whose layers run in one kernel, as a module."""

from __future__ import annotations

import itertools

import torch
from torch import nn

from nerf_metal import ops
from nerf_metal.ops.checks import check_choice, check_count
from nerf_metal.ops.mlp import DEEPEST, WIDEST
from nerf_metal.reference.mlp import OUTPUT_ACTIVATIONS


class FusedMLP(nn.Module):
    """A multilayer perceptron with ReLU after each hidden layer and without biases, as instant-ngp uses it.

    All layers run in one kernel (Müller et al., "Real-time Neural Radiance Caching", SIGGRAPH 2021, section 4).
    :func:`nerf_metal.reference.mlp` has the equations. Weights start uniform by Glorot and Bengio 2010.

    Args:
        input_width: columns of the input, 1 to 128.
        output_width: columns of the output, 1 to 128.
        hidden_width: columns of every hidden layer, 1 to 128. A width that is no multiple of 16 takes the time of the
            next multiple. The default of 64 is instant-ngp's (Müller et al. 2022, section 5.4).
        hidden_layers: number of hidden layers, 1 to 4.
        output_activation: ``"none"``, ``"relu"`` or ``"sigmoid"``, applied to the output.
        backend: ``"auto"``, ``"metal"``, ``"host"`` or ``"torch"``, see :mod:`nerf_metal.ops`.

    Attributes:
        weights: the matrix of each layer from input to output, float32 ``[out, in]``.

    Raises:
        ValueError: if a number is out of its range or the activation is unknown.
        TypeError: if an argument has the wrong type.
    """

    def __init__(
        self,
        input_width: int,
        output_width: int,
        hidden_width: int = 64,
        hidden_layers: int = 1,
        output_activation: str = "none",
        *,
        backend: str = "auto",
    ) -> None:
        """Draw the weights from torch's random state, layer by layer."""
        super().__init__()
        op = "FusedMLP"
        for name, width in (("input", input_width), ("output", output_width), ("hidden", hidden_width)):
            check_count(op, f"{name}_width", width, most=WIDEST)
        check_count(op, "hidden_layers", hidden_layers, most=DEEPEST)
        check_choice(op, "output_activation", output_activation, OUTPUT_ACTIVATIONS)
        self.output_width, self.output_activation, self.backend = output_width, output_activation, backend
        widths = [input_width, *[hidden_width] * hidden_layers, output_width]
        weights = (torch.empty(out, into) for into, out in itertools.pairwise(widths))
        self.weights = nn.ParameterList(nn.Parameter(nn.init.xavier_uniform_(weight)) for weight in weights)

    def forward(self, x: torch.Tensor, *, known: torch.Tensor | None = None) -> torch.Tensor:
        """Evaluate the network. Gradients flow to the weights, and to ``x`` if it requires a gradient.

        Args:
            x: rows ``[S, input_width]``, in the dtype of the weights.
            known: the result ``[S, output_width]``, if a call without gradients has given it before. It is not computed
                again, and gets the gradients of a call of its own.

        Returns:
            Rows ``[S, output_width]``.

        Raises:
            ValueError: if a shape or device is wrong, or the backend cannot be used.
            TypeError: if a dtype is wrong.
        """
        return ops.mlp(
            x, list(self.weights), output_activation=self.output_activation, known=known, backend=self.backend
        )

    def extra_repr(self) -> str:
        """Return what ``print`` shows between the parentheses."""
        return f"output_activation={self.output_activation!r}"
