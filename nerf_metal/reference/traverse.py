"""Marching through an occupancy grid in pure torch: the specification of ``metal/traverse.metal``.

The grid is that of :mod:`nerf_metal.reference.occupancy`; ``t`` is that of :mod:`nerf_metal.reference.march`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from nerf_metal.reference.march import intersect_rays
from nerf_metal.reference.occupancy import unpack_bits
from nerf_metal.reference.random import STREAM_TRAVERSE, uniform

_MOST_STEPS = 2**20  # along a ray, of any sense; the kernels end their loops there


class TraversedRays(NamedTuple):
    """Samples of all rays, one ray's after another's.

    ``packed_info`` ``[R, 2]`` int32: where a ray's samples start and how many they are; ``ray_indices`` ``[S]`` int64,
    as torch indexes; ``t_starts``, ``t_ends`` ``[S]``.
    """

    packed_info: torch.Tensor
    ray_indices: torch.Tensor
    t_starts: torch.Tensor
    t_ends: torch.Tensor


@torch.no_grad()
def traverse_grid(
    rays_o: torch.Tensor,
    rays_d: torch.Tensor,
    aabb: torch.Tensor,
    bits: torch.Tensor,
    *,
    resolution: int,
    cascades: int = 1,
    step_size: float,
    cone_angle: float = 0.0,
    near: float = 0.0,
    far: float = 1e10,
    stratified: bool = False,
    seed: int = 0,
    max_samples: int | None = None,
    max_samples_per_ray: int = 1024,
) -> TraversedRays:
    """March rays through an occupancy grid as instant-ngp does (Müller et al. 2022, appendix E.1 and E.2).

    A ray is walked from where it enters the outermost cascade's box (or ``near``) to where it leaves it (or ``far``),
    ``t_min`` to ``t_max`` of :func:`intersect_rays`, in steps of length

        ``dt(t) = clamp(cone_angle t, step_size, 2^(cascades - 1) step_size)``,

    ``t_0 = t_min + jitter dt(t_min)`` and ``t_(n+1) = t_n + dt(t_n)``. The jitter is uniform in [0, 1) with
    ``stratified`` and 0 without: the intervals then cover the ray from the face on. A step is a sample if its middle
    lies before ``t_max`` and in an occupied cell. The cell is one of the finest cascade that covers the middle and
    whose cells are larger than the step, along each axis (instant-ngp compares the length of the step; this differs
    from it by a factor of the square root of 3 at most, and needs no directions of unit length).

    Here every step is looked at. The kernels skip empty cells and find the same samples, give or take those whose
    middle is within rounding of a cell's border.

    Args:
        rays_o: origins ``[R, 3]``, any float dtype, world units.
        rays_d: directions ``[R, 3]``.
        aabb: the box of the finest cascade ``[2, 3]``, least corner first.
        bits: int32 ``[cascades * resolution^3 / 32]``.
        resolution: cells of a cascade along an axis.
        cascades: how many boxes there are.
        step_size: least step, in units of ``t``.
        cone_angle: growth of the steps with ``t``.
        near: least ``t`` kept.
        far: greatest ``t`` kept.
        stratified: jitter each ray's first step.
        seed: of the jitter; the low 32 bits count.
        max_samples: length of the arrays of samples; rays are cut where they end, what is left is zero.
        max_samples_per_ray: a ray ends after so many.
    """
    half = 0.5 * (aabb[1] - aabb[0])
    centre = aabb[0] + half
    outer = torch.stack((centre - half * 2 ** (cascades - 1), centre + half * 2 ** (cascades - 1)))
    t_min, t_max, _ = intersect_rays(rays_o, rays_d, outer, near=near, far=far)
    cells = 0.5 * resolution / half
    o, d = (rays_o - centre) * cells, rays_d * cells  # in cells of the finest cascade about the box's centre
    stride = d.abs().amax(-1)
    occupied = unpack_bits(bits)

    def length(t: torch.Tensor) -> torch.Tensor:
        return (t * cone_angle).clamp(step_size, step_size * 2 ** (cascades - 1))

    jitter = torch.zeros_like(t_min)
    if stratified:
        jitter = uniform(len(rays_o), 1, seed, STREAM_TRAVERSE, rays_o.device)[:, 0].to(rays_o.dtype)
    t0 = t_min + jitter * length(t_min)
    grows = cone_angle > 0 and cascades > 1
    t, counts = t0, torch.zeros_like(t0, dtype=torch.int32)
    rays, starts, ends = [], [], []
    for n in range(1, _MOST_STEPS + 1):
        dt = length(t)
        middle = t + 0.5 * dt
        before_end = middle < t_max
        if not bool(before_end.any()):
            break
        place = o + middle[:, None] * d
        reach = torch.maximum(place.abs().amax(-1) / (0.5 * resolution), dt * stride)
        cascade = torch.frexp(reach).exponent.clamp(0, cascades - 1)  # of numbers in [2^(k - 1), 2^k) it is k
        scale = torch.exp2(cascade.to(rays_o.dtype))[:, None]
        cell = (place / scale + 0.5 * resolution).floor().clamp(0, resolution - 1).to(torch.int64)
        x, y, z = cell.unbind(-1)
        index = x + resolution * (y + resolution * (z + resolution * cascade))
        found = before_end & occupied[index] & (counts < max_samples_per_ray)
        counts += found
        ray = found.nonzero()[:, 0]
        rays.append(ray)
        starts.append(t[ray])
        ends.append((t + dt)[ray])
        t = t + dt if grows else t0 + n * step_size  # even steps do not gather rounding errors
    return _packed(rays, starts, ends, counts, t0, max_samples)


def pack_counts(counts: torch.Tensor) -> torch.Tensor:
    """Return where the samples of each ray lie if they lie one ray after another.

    Args:
        counts: number of samples of each ray, int32 ``[R]``.

    Returns:
        ``packed_info``, int32 ``[R, 2]``: first sample and number of samples of each ray.
    """
    return torch.stack((counts.cumsum(0, dtype=torch.int32) - counts, counts), dim=-1)


def _packed(
    rays: list[torch.Tensor],
    starts: list[torch.Tensor],
    ends: list[torch.Tensor],
    counts: torch.Tensor,
    like: torch.Tensor,
    max_samples: int | None,
) -> TraversedRays:
    """What each step found, in the order of the rays."""
    first = pack_counts(counts)[:, 0]
    last = first + counts
    total = int(counts.sum())
    size = total if max_samples is None else max_samples
    length = max(total, size)  # all are placed, then the arrays are cut
    index = torch.zeros(length, dtype=torch.int64, device=like.device)
    t_starts, t_ends = like.new_zeros(length), like.new_zeros(length)
    at = first.to(torch.int64)
    for ray, start, end in zip(rays, starts, ends, strict=True):
        place = at[ray]
        index[place], t_starts[place], t_ends[place] = ray, start, end
        at[ray] += 1
    first, last = first.clamp(max=size), last.clamp(max=size)
    return TraversedRays(torch.stack((first, last - first), dim=-1), index[:size], t_starts[:size], t_ends[:size])
