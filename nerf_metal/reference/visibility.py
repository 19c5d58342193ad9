"""What light reaches of packed samples, in pure torch: the specification of ``metal/visibility.metal``.

Samples are packed as in :mod:`nerf_metal.reference.traverse`: ``packed_info [R, 2]`` says where a ray's samples start
and how many they are.
"""

from __future__ import annotations

from typing import NamedTuple

import torch


class RaySampleList(NamedTuple):
    """Packed samples of rays: ``ray_indices [S]`` int64, ``t_starts [S]``, ``t_ends [S]``, and the ``positions [S, 3]``
    of their middles, world units."""

    ray_indices: torch.Tensor
    t_starts: torch.Tensor
    t_ends: torch.Tensor
    positions: torch.Tensor


def _moves(source_info: torch.Tensor, target_info: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Where samples lie, where they are wanted, and their rays; of each ray as many as both have room for."""
    counts = torch.minimum(source_info[:, 1], target_info[:, 1]).long()
    rays = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
    rank = torch.arange(len(rays), device=counts.device) - (counts.cumsum(0) - counts)[rays]
    return source_info[rays, 0] + rank, target_info[rays, 0] + rank, rays


@torch.no_grad()
def visibility_gather(
    rays_o: torch.Tensor,
    rays_d: torch.Tensor,
    t_starts: torch.Tensor,
    t_ends: torch.Tensor,
    source_info: torch.Tensor,
    target_info: torch.Tensor,
    num_samples: int,
) -> RaySampleList:
    """The first samples of each ray's ``source_info``, where ``target_info`` has room for them.

    Args:
        rays_o: origins ``[R, 3]``, any float dtype, world units.
        rays_d: directions ``[R, 3]``.
        t_starts: of all samples ``[S]``.
        t_ends: of all samples ``[S]``.
        source_info: int32 ``[R, 2]``, start and count among them.
        target_info: int32 ``[R, 2]``, start and count in the result; no two rays share a place.
        num_samples: length of the result; places of no ray hold zeros.
    """
    source, target, rays = _moves(source_info, target_info)
    found = RaySampleList(
        torch.zeros(num_samples, dtype=torch.int64, device=rays_o.device),
        *(t_starts.new_zeros(shape) for shape in ((num_samples,), (num_samples,), (num_samples, 3))),
    )
    found.ray_indices[target] = rays
    found.t_starts[target], found.t_ends[target] = t_starts[source], t_ends[source]
    middles = 0.5 * (t_starts[source] + t_ends[source])
    found.positions[target] = rays_o[rays] + middles[:, None] * rays_d[rays]
    return found


@torch.no_grad()
def visibility_count(
    sigmas: torch.Tensor,
    t_starts: torch.Tensor,
    t_ends: torch.Tensor,
    packed_info: torch.Tensor,
    transmittance: torch.Tensor,
    *,
    early_stop_eps: float,
) -> torch.Tensor:
    """How many of each ray's samples light reaches.

    Front to back, sample ``i`` is reached if the light in front of it, ``T_i``, is at least ``early_stop_eps``, and
    ``T_(i+1) = T_i exp(-sigma_i (t_end_i - t_start_i))`` (Mildenhall et al. 2020, equation 3), with densities below 0
    as 0. What is behind a NaN is not reached. Those reached come first: light only falls.

    Args:
        sigmas: densities ``[S]``, any float dtype, 1 / world unit.
        t_starts: ``[S]``, world units.
        t_ends: ``[S]``.
        packed_info: int32 ``[R, 2]``.
        transmittance: ``[R]``, light in front of each ray's samples; is overwritten with what is left behind those
            reached. With windows of samples, one call goes on where the one before ended.
        early_stop_eps: least light that counts.

    Returns:
        int32 ``[R]``.
    """
    finite = sigmas.clamp(0.0, torch.finfo(sigmas.dtype).max)  # an interval of no length stays transparent
    keep = torch.exp(-finite * (t_ends - t_starts))
    counts = torch.zeros_like(packed_info[:, 1])
    for i in range(int(packed_info[:, 1].max()) if len(counts) else 0):
        reached = (i < packed_info[:, 1]) & (transmittance >= early_stop_eps)
        counts += reached
        transmittance[reached] *= keep[packed_info[reached, 0] + i]
    return counts


@torch.no_grad()
def visibility_copy(
    rows: torch.Tensor, source_info: torch.Tensor, target_info: torch.Tensor, out: torch.Tensor
) -> None:
    """Write the first rows of each ray's ``source_info`` where ``target_info`` has room for them.

    Args:
        rows: ``[S, C]``.
        source_info: int32 ``[R, 2]``, start and count among the rows.
        target_info: int32 ``[R, 2]``, start and count in ``out``; no two rays share a place.
        out: ``[K, C]``; places of no ray stay as they are.
    """
    source, target, _ = _moves(source_info, target_info)
    out[target] = rows[source]
