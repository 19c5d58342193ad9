"""Visibility of packed samples in pure torch: the specification of ``metal/visibility.metal``.

Samples are packed as in :mod:`nerf_metal.reference.traverse`: ``packed_info [R, 2]`` holds, for each ray, the index of
its first sample and the number of its samples.
"""

from __future__ import annotations

from typing import NamedTuple

import torch


class RaySampleList(NamedTuple):
    """Packed samples of rays.

    Attributes:
        ray_indices: ray of each sample, int64 ``[S]``.
        t_starts: start of each interval ``[S]``, world units.
        t_ends: end of each interval ``[S]``, world units.
        positions: middle of each interval ``[S, 3]``, world units.
    """

    ray_indices: torch.Tensor
    t_starts: torch.Tensor
    t_ends: torch.Tensor
    positions: torch.Tensor


def _moves(source_info: torch.Tensor, target_info: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pair the samples of two packings, for each ray as many as both have.

    Returns:
        Index in the source, index in the target, and ray of each sample, int64.
    """
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
    """Gather the first samples of each ray into another packing, as many as it has room for.

    Args:
        rays_o: origins ``[R, 3]``, any float dtype, world units.
        rays_d: directions ``[R, 3]``.
        t_starts: start of each sample's interval ``[S]``, world units.
        t_ends: end of each sample's interval ``[S]``, world units.
        source_info: (start, count) of each ray among the samples, int32 ``[R, 2]``.
        target_info: (start, count) of each ray in the result, int32 ``[R, 2]``. Rays must not share places.
        num_samples: length of the result. Places of no ray hold zeros.

    Returns:
        The gathered samples with their positions.
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
    """Count the visible samples of each ray, front to back.

    Sample ``i`` is visible if the transmittance in front of it, ``T_i``, is at least ``early_stop_eps``.
    ``T_(i+1) = T_i exp(-sigma_i (t_end_i - t_start_i))`` (Mildenhall et al. 2020, "NeRF", eq. 3), with negative
    densities as 0. Samples behind a NaN are not visible. The visible samples of a ray come first, because the
    transmittance only falls.

    Args:
        sigmas: densities ``[S]``, any float dtype, 1 / world unit.
        t_starts: start of each sample's interval ``[S]``, world units.
        t_ends: end of each sample's interval ``[S]``, world units.
        packed_info: (start, count) of each ray's samples, int32 ``[R, 2]``.
        transmittance: transmittance in front of each ray's samples ``[R]``. It is overwritten with the transmittance
            behind the visible samples, so that the next call can go on with the next samples of the rays.
        early_stop_eps: least transmittance that counts.

    Returns:
        Number of visible samples of each ray, int32 ``[R]``.
    """
    finite = sigmas.clamp(0.0, torch.finfo(sigmas.dtype).max)  # inf * 0 would be NaN
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
    """Copy the first rows of each ray into another packing, as many as it has room for.

    Args:
        rows: one row for each sample ``[S, C]``.
        source_info: (start, count) of each ray among the rows, int32 ``[R, 2]``.
        target_info: (start, count) of each ray in ``out``, int32 ``[R, 2]``. Rays must not share places.
        out: the result ``[K, C]``, written in place. Places of no ray keep their values.
    """
    source, target, _ = _moves(source_info, target_info)
    out[target] = rows[source]
