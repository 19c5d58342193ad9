"""Multiresolution hash encoding in pure torch: the specification of ``metal/hashgrid.metal``.

Müller et al. 2022 is "Instant neural graphics primitives with a multiresolution hash encoding" (SIGGRAPH 2022).
"""

from __future__ import annotations

import math

import torch

CORNERS = 8
PRIMES = (1, 2654435761, 805459861)  # Teschner et al. 2003; Müller et al. 2022, eq. 4
_MASK = 0xFFFFFFFF


def hashgrid_levels(
    num_levels: int, base_resolution: int, finest_resolution: int, log2_table_size: int
) -> torch.Tensor:
    """Lay out the levels of a hash grid.

    Resolutions grow by one factor from the base to the finest: ``N_l = floor(N_min b^l)`` (Müller et al. 2022, eq. 2
    and 3). A level whose ``(N_l + 2)^3`` vertices fit into ``2^log2_table_size`` entries has one entry for each vertex;
    the entries of other levels are hashed. The first entry of each level is a multiple of 16, so that a level starts on
    a cache line of its own.

    Args:
        num_levels: number of levels ``L``.
        base_resolution: resolution ``N_min`` of the first level: cells along an axis.
        finest_resolution: resolution of the last level.
        log2_table_size: binary logarithm of the largest number of entries of a level.

    Returns:
        int32 ``[L, 4]``: resolution, first entry, number of entries, and 1 if the entries are hashed, else 0.
    """
    growth = 1.0
    if num_levels > 1:
        growth = math.exp(math.log(finest_resolution / base_resolution) / (num_levels - 1))
    rows, first = [], 0
    for level in range(num_levels):
        # slightly larger, so that rounding does not change the finest resolution
        resolution = int(base_resolution * growth**level * (1.0 + 1e-9))
        vertices = (resolution + 2) ** 3
        hashed = vertices > 2**log2_table_size
        entries = 2**log2_table_size if hashed else vertices
        rows.append([resolution, first, entries, int(hashed)])
        first += -(-entries // 16) * 16
    return torch.tensor(rows, dtype=torch.int32)


def hashgrid_encode(positions: torch.Tensor, table: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    """Encode points by the multiresolution hash encoding (Müller et al. 2022, section 3).

    At level ``l`` a point lies at ``v = x N_l + 1/2``, between eight vertices. Its features are the trilinear
    interpolation of the entries of these vertices. The entry of vertex ``(i, j, k)`` is ``i + j n + k n^2`` with
    ``n = N_l + 2``, or at a hashed level ``(i xor 2654435761 j xor 805459861 k) mod entries`` in 32 bits (eq. 4).

    The authors' code has the half, the paper does not. It shifts the levels against each other; otherwise the vertices
    of all levels would meet at the corners of the box, and all levels would be flat at the same places.

    Args:
        positions: points ``[N, 3]`` in [0, 1], any float dtype. A point outside counts as the nearest point inside,
            NaN as 0.
        table: features of the entries ``[entries, F]``, any float dtype.
        levels: int32 ``[L, 4]``, see :func:`hashgrid_levels`.

    Returns:
        Features ``[N, L * F]``, the levels side by side, in the dtype of ``positions``.
    """
    position = positions.nan_to_num().clamp(0.0, 1.0)
    table = table.to(positions.dtype)  # the whole table, so that gradients are summed in this dtype
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
