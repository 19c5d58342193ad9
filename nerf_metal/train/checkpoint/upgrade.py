"""Reads what older versions wrote: the names that tensors had in format 2.

There the names depended on options. The two networks stood alone, or below ``field.`` beside an average. The average of
a hash grid was that of its field. Corrections that were off had no tensors.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

MOVED = {
    "field.table": "field.encoding.table",
    "field.density_weights.": "field.density_network.weights.",
    "field.color_weights.": "field.color_network.weights.",
}
"""Beginnings of names of the hash grid's field, and what they have become."""
AVERAGE, FIELD, CORRECTIONS = "average.", "field.", "corrections."


def upgrade_weights(
    weights: dict[str, torch.Tensor], expected: Mapping[str, torch.Tensor], version: int
) -> dict[str, torch.Tensor]:
    """Return a checkpoint's weights under the names that they have now.

    Args:
        weights: as the file has them.
        expected: the names and tensors of the model that takes them.
        version: the format of the file.
    """
    if version > 2:
        return weights
    bare = not any(name.startswith(FIELD) for name in weights)
    named = {_now(name, bare): tensor for name, tensor in weights.items()}
    # What was off had no tensors; and buffers are the model's own, not averaged.
    kept = {name: tensor for name, tensor in named.items() if not name.startswith(AVERAGE) or name in expected}
    off = {name: tensor for name, tensor in expected.items() if CORRECTIONS in name and name not in kept}
    averaged = {name: kept[name.removeprefix(AVERAGE)] for name in off if name.removeprefix(AVERAGE) in kept}
    # A correction was not averaged: pictures are made without it.
    return {**kept, **off, **averaged}


def upgrade_moments(moments: dict[str, torch.Tensor], version: int) -> dict[str, torch.Tensor]:
    """Return an optimizer's moments under the names that their parameters have now.

    Args:
        moments: as the file has them: ``PARAMETER/MOMENT``.
        version: the format of the file.
    """
    if version > 2:
        return moments
    bare = not any(name.startswith(FIELD) for name in moments)
    return {_now(name, bare): tensor for name, tensor in moments.items()}


def _now(name: str, bare: bool) -> str:
    """The name that a tensor has now."""
    if bare:
        return FIELD + name
    if name.startswith(AVERAGE):
        return AVERAGE + _now(FIELD + name.removeprefix(AVERAGE), bare=False)
    for begins, became in MOVED.items():
        if name.startswith(begins):
            return became + name.removeprefix(begins)
    return name
