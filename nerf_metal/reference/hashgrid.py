"""Multiresolution hash encoding in pure torch: the specification of ``metal/hashgrid.metal``."""

from __future__ import annotations

import math

import torch

CORNERS = 8
PRIMES = (1, 2654435761, 805459861)  # Teschner et al. 2003; Müller et al. 2022, eq. 4
_MASK = 0xFFFFFFFF


def hashgrid_levels(
    num_levels: int, base_resolution: int, finest_resolution: int, log2_table_size: int
) -> torch.Tensor:
    """The levels of a grid: int32 ``[L, 4]``, resolution, first entry, entries, and 1 where entries are hashed.

    Resolutions grow by one factor from the base to the finest, ``N_l = floor(N_min b^l)`` (Müller et al. 2022, eq. 2
    and 3). A level whose ``(N_l + 2)^3`` vertices fit into ``2^log2_table_size`` has an entry for each of them. First
    entries are multiples of 16, so that a level begins on a cache line of its own.
    """
    growth = 1.0
    if num_levels > 1:
        growth = math.exp(math.log(finest_resolution / base_resolution) / (num_levels - 1))
    rows, first = [], 0
    for level in range(num_levels):
        # a hair above: the finest level is the finest resolution in spite of rounding
        resolution = int(base_resolution * growth**level * (1.0 + 1e-9))
        vertices = (resolution + 2) ** 3
        hashed = vertices > 2**log2_table_size
        entries = 2**log2_table_size if hashed else vertices
        rows.append([resolution, first, entries, int(hashed)])
        first += -(-entries // 16) * 16
    return torch.tensor(rows, dtype=torch.int32)


def hashgrid_encode(positions: torch.Tensor, table: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    """Features of points at every level (Müller et al. 2022, section 3).

    At level ``l`` a point lies at ``v = x N_l + 1/2`` between the eight vertices around it; its features are their
    entries' trilinear interpolation. The half shifts levels against each other: were every level's vertices on the
    box's corners, all of them would be flat at the same places (as in the authors' code; the paper leaves it out). The
    entry of vertex ``(i, j, k)`` is ``i + j n + k n^2`` with ``n = N_l + 2``, or where the level is hashed
    ``(i xor 2654435761 j xor 805459861 k) mod entries`` in 32 bits.

    Args:
        positions: ``[N, 3]``, in [0, 1]; others count as the nearest inside, NaN as 0.
        table: ``[entries, F]``, any float dtype.
        levels: int32 ``[L, 4]``, see :func:`hashgrid_levels`.

    Returns:
        ``[N, L * F]``, levels side by side, in the dtype of ``positions``.
    """
    position = positions.nan_to_num().clamp(0.0, 1.0)
    table = table.to(positions.dtype)  # as a whole: gradients add up in this dtype
    parts = []
    for resolution, first, entries, hashed in levels.tolist():
        at = position * resolution + 0.5
        low = at.detach().floor()
        fraction = at - low
        cell = low.long()
        features = positions.new_zeros((len(positions), table.shape[1]))
        for corner in range(CORNERS):
            far = torch.tensor([corner >> axis & 1 for axis in range(3)], device=positions.device)
            vertex = cell + far
            if hashed:
                index = torch.zeros_like(vertex[:, 0])
                for axis, prime in enumerate(PRIMES):
                    index = index ^ (vertex[:, axis] * prime & _MASK)
                index = index % entries
            else:
                side = resolution + 2
                index = vertex[:, 0] + side * (vertex[:, 1] + side * vertex[:, 2])
            weight = torch.where(far.bool(), fraction, 1.0 - fraction).prod(-1, keepdim=True)
            features = features + weight * table[first + index]
        parts.append(features)
    return torch.cat(parts, -1) if parts else positions.new_zeros((len(positions), 0))
