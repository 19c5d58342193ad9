"""The occupancy grid in pure torch: the specification of ``metal/occupancy.metal``.

The grid of instant-ngp (Müller et al., SIGGRAPH 2022, appendix E): each cascade has ``resolution^3`` cells;
cascade ``k`` covers the scene's box scaled by ``2^k`` about its centre. Cell ``(x, y, z)`` of cascade ``k`` has the
index ``x + resolution (y + resolution (z + resolution k))`` and is bit ``i % 32`` of word ``i / 32``.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from nerf_metal.reference.random import STREAM_CELL, STREAM_OCCUPANCY, uniform, words

_TRIES = 16


class OccupancyCells(NamedTuple):
    """Cells ``[M]`` int64, and a place in each: ``positions`` ``[M, 3]``, world units."""

    cells: torch.Tensor
    positions: torch.Tensor


def unpack_bits(bits: torch.Tensor) -> torch.Tensor:
    """Bool ``[32 W]`` of words int32 ``[W]``."""
    return ((bits[:, None] >> torch.arange(32, device=bits.device, dtype=torch.int32)) & 1).flatten() != 0


def pack_bits(mask: torch.Tensor) -> torch.Tensor:
    """Words int32 ``[W]`` of bool ``[32 W]``."""
    place = torch.arange(32, device=mask.device, dtype=torch.int64)
    word = (mask.view(-1, 32).to(torch.int64) << place).sum(-1)
    return torch.where(word >= 2**31, word - 2**32, word).to(torch.int32)


@torch.no_grad()
def occupancy_cells(
    bits: torch.Tensor,
    aabb: torch.Tensor,
    num_uniform: int,
    num_occupied: int,
    *,
    resolution: int,
    cascades: int = 1,
    seed: int = 0,
    first_cell: int | None = None,
) -> OccupancyCells:
    """Choose cells to look at, and a uniformly random place in each.

    The first ``num_uniform`` are drawn from all cells of all cascades. The others are drawn so up to 16 times, until
    the cell is occupied; where none was, the last stays (rejection as in instant-ngp, which tries 10 times: no list of
    the occupied cells is made, nothing is read back). A cell is ``floor(w n / 2^32)`` of the random word ``w``
    numbered (index, try) and the number of cells ``n``.

    Args:
        bits: int32 ``[cascades * resolution^3 / 32]``.
        aabb: the box of the finest cascade ``[2, 3]``, any float dtype, world units.
        num_uniform: cells drawn from all.
        num_occupied: cells drawn from the occupied ones.
        resolution: cells of a cascade along an axis.
        cascades: how many boxes there are.
        seed: its low 32 bits count. Equal seeds give equal numbers on every backend.
        first_cell: if given, the ``num_uniform`` cells are this and those that follow, the first after the last.
    """
    device, total, count = bits.device, cascades * resolution**3, num_uniform + num_occupied
    if first_cell is not None:
        cells = (first_cell + torch.arange(count, device=device, dtype=torch.int64)) % total
    else:
        tried = (words(count, _TRIES, seed, STREAM_OCCUPANCY, device) * total) >> 32
        occupied = unpack_bits(bits)[tried]
        occupied[:num_uniform] = True
        occupied[:, -1] = True
        first = occupied.to(torch.int8).argmax(-1, keepdim=True)
        cells = tried.gather(-1, first)[:, 0]
    side = torch.stack((cells, cells // resolution, cells // resolution**2), dim=-1) % resolution
    jitter = uniform(count, 3, seed, STREAM_CELL, device).to(aabb.dtype)
    place = (side.to(aabb.dtype) + jitter) * (2.0 / resolution) - 1.0
    half = 0.5 * (aabb[1] - aabb[0])
    scale = (2 ** (cells // resolution**3)).to(aabb.dtype)[:, None]
    return OccupancyCells(cells, aabb[0] + half + half * scale * place)


@torch.no_grad()
def occupancy_update(density: torch.Tensor, cells: torch.Tensor, values: torch.Tensor, *, decay: float = 0.95) -> None:
    """Remember new densities, in place: ``density <- decay density``, then ``density[c] <- max(density[c], value)``.

    Instant-ngp's rule (appendix E.2): a maximum that fades. One look at a cell is one point of it and may miss what is
    there, so a low value alone empties nothing: after ``n`` updates without a find the memory is ``decay^n`` of the
    last one.

    Args:
        density: ``[cascades * resolution^3]``, at least 0, any float dtype.
        cells: int32 or int64 ``[M]``, in any order, also more than once.
        values: ``[M]``; NaN and negative ones count as 0.
        decay: 0 to 1.
    """
    density.mul_(decay)
    found = torch.where(values > 0, values, torch.zeros_like(values))
    density.scatter_reduce_(0, cells.to(torch.int64), found, "amax")


@torch.no_grad()
def occupancy_pack(density: torch.Tensor, threshold: float) -> torch.Tensor:
    """Bits of the cells with ``density > min(threshold, mean(density))``.

    Instant-ngp's rule: before the field has found anything, all densities are small, and the mean keeps the densest
    cells occupied. Infinite densities, of cells never looked at, count as 0 in the mean: they say nothing.

    Args:
        density: ``[cascades * resolution^3]``, any float dtype.
        threshold: in the unit of density.

    Returns:
        int32 ``[cascades * resolution^3 / 32]``.
    """
    return pack_bits(density > density.nan_to_num(posinf=0.0).mean().clamp(max=threshold))
