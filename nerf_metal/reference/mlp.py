"""A small multilayer perceptron in pure torch: the specification of ``metal/mlp.metal``."""

from __future__ import annotations

from collections.abc import Sequence

import torch

OUTPUT_ACTIVATIONS = ("none", "relu", "sigmoid")


def mlp(
    x: torch.Tensor,
    weights: Sequence[torch.Tensor],
    biases: Sequence[torch.Tensor] | None = None,
    *,
    output_activation: str = "none",
) -> torch.Tensor:
    """Apply a multilayer perceptron with ReLU: ``h <- max(W h + b, 0)`` for each layer.

    The last layer has ``output_activation`` in place of the ReLU.

    Args:
        x: inputs ``[N, in]``, any float dtype.
        weights: weights of each layer ``[out, in]``, as in ``torch.nn.Linear``; at least two layers.
        biases: biases of each layer ``[out]``; None for layers without biases.
        output_activation: ``"none"``, ``"relu"`` or ``"sigmoid"``.

    Returns:
        Outputs of the last layer ``[N, out]``.
    """
    h = x
    for layer, weight in enumerate(weights):
        h = torch.nn.functional.linear(h, weight, None if biases is None else biases[layer])
        if layer < len(weights) - 1 or output_activation == "relu":
            h = torch.relu(h)
    return torch.sigmoid(h) if output_activation == "sigmoid" else h
