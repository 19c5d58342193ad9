"""Conversion of checkpoints of format 2, in which tensors had other names.

The names depended on options. The names of the two networks began with ``field.`` only if there was an average. The
average of a hash grid covered its field only. Corrections that were off had no tensors.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

MOVED = {
    "field.table": "field.encoding.table",
    "field.density_weights.": "field.density_network.weights.",
    "field.color_weights.": "field.color_network.weights.",
}
"""Old prefixes of names in the field of a hash grid, with the new prefixes."""
AVERAGE, FIELD, CORRECTIONS = "average.", "field.", "corrections."
"""Beginnings of the names of averaged weights, of weights of the field, and of corrections of the images."""


def upgrade_weights(
    weights: dict[str, torch.Tensor], expected: Mapping[str, torch.Tensor], version: int
) -> dict[str, torch.Tensor]:
    """Return the weights of a checkpoint under their present names.

    Args:
        weights: weights under the names in the file.
        expected: present names and tensors of the model that receives the weights.
        version: format of the file.
    """
    if version > 2:
        return weights
    bare = not any(name.startswith(FIELD) for name in weights)
    named = {_now(name, bare): tensor for name, tensor in weights.items()}
    # Corrections that were off had no tensors. Buffers are not averaged any more.
    kept = {name: tensor for name, tensor in named.items() if not name.startswith(AVERAGE) or name in expected}
    off = {name: tensor for name, tensor in expected.items() if CORRECTIONS in name and name not in kept}
    averaged = {name: kept[name.removeprefix(AVERAGE)] for name in off if name.removeprefix(AVERAGE) in kept}
    # Corrections were not averaged, because pictures are made without them.
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
    """Return the present name of a tensor. ``bare`` says that the names in the file lack ``field.``."""
    if bare:
        return FIELD + name
    if name.startswith(AVERAGE):
        return AVERAGE + _now(FIELD + name.removeprefix(AVERAGE), bare=False)
    for begins, became in MOVED.items():
        if name.startswith(begins):
            return became + name.removeprefix(begins)
    return name
