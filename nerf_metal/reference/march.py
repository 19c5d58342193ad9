"""Ray marching in pure torch: the specification of ``metal/march.metal``.

``t`` is the distance along a ray in world units when ``rays_d`` has unit length: ``x(t) = rays_o + t rays_d``.
``S`` intervals have ``S + 1`` edges; interval ``i`` runs from ``t_edges[:, i]`` to ``t_edges[:, i + 1]``.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from nerf_metal.reference.random import STREAM_MARCH, uniform

# A direction component below the smallest normal float32 is zero to a GPU that flushes denormals.
_TINY = torch.finfo(torch.float32).tiny


class RayBounds(NamedTuple):
    """Where rays meet a box: ``t_min``, ``t_max`` ``[R]``, ``hits`` ``[R]`` bool."""

    t_min: torch.Tensor
    t_max: torch.Tensor
    hits: torch.Tensor


class RaySamples(NamedTuple):
    """Sampled intervals: ``t_edges`` ``[R, S + 1]``, never decreasing along a ray, and the :class:`RayBounds`."""

    t_edges: torch.Tensor
    t_min: torch.Tensor
    t_max: torch.Tensor
    hits: torch.Tensor

    @property
    def t_starts(self) -> torch.Tensor:
        """Interval starts ``[R, S]``, a view of ``t_edges``."""
        return self.t_edges[:, :-1]

    @property
    def t_ends(self) -> torch.Tensor:
        """Interval ends ``[R, S]``, a view of ``t_edges``."""
        return self.t_edges[:, 1:]


@torch.no_grad()
def intersect_rays(
    rays_o: torch.Tensor,
    rays_d: torch.Tensor,
    aabb: torch.Tensor,
    *,
    near: float = 0.0,
    far: float = 1e10,
) -> RayBounds:
    """Intersect rays with an axis-aligned box by the slab method (Kay and Kajiya, SIGGRAPH 1986).

    The part of a ray inside the box is cut to ``[near, far]``. A ray whose remaining part has no length is a miss:
    ``hits`` is False and ``t_min = t_max = near``. A ray that starts inside begins at ``near``. A zero (or
    denormal) direction component puts no bound on ``t`` where the origin lies in that slab, its faces included, and
    is a miss elsewhere. Positions are constants to autograd, as in every NeRF: nothing here has a gradient.

    Args:
        rays_o: origins ``[R, 3]``, any float dtype, world units.
        rays_d: directions ``[R, 3]``.
        aabb: the box ``[2, 3]``, least corner first.
        near: least ``t`` kept, at least 0.
        far: greatest ``t`` kept; the default 1e10 is "no limit" as in nerfacc.
    """
    lo, hi = aabb[0], aabb[1]
    parallel = rays_d.abs() < _TINY
    safe_d = torch.where(parallel, torch.ones_like(rays_d), rays_d)
    t0, t1 = (lo - rays_o) / safe_d, (hi - rays_o) / safe_d
    infinity = torch.full_like(t0, float("inf"))
    outside = (rays_o < lo) | (rays_o > hi)
    entry = torch.where(parallel, torch.where(outside, infinity, -infinity), torch.minimum(t0, t1))
    leave = torch.where(parallel, torch.where(outside, -infinity, infinity), torch.maximum(t0, t1))
    t_min = entry.amax(-1).clamp(min=near)
    t_max = leave.amin(-1).clamp(max=far)
    hits = t_max > t_min
    at_near = torch.full_like(t_min, near)
    return RayBounds(torch.where(hits, t_min, at_near), torch.where(hits, t_max, at_near), hits)


@torch.no_grad()
def march_rays(
    rays_o: torch.Tensor,
    rays_d: torch.Tensor,
    aabb: torch.Tensor,
    num_samples: int,
    *,
    near: float = 0.0,
    far: float = 1e10,
    stratified: bool = False,
    seed: int = 0,
    spacing: str = "linear",
) -> RaySamples:
    """Cut the part of each ray inside a box into ``num_samples`` intervals.

    Edge ``i`` lies at ``s = i / S`` of the way; with ``stratified`` it is drawn uniformly between the middles of its
    neighbouring intervals (the stratified sampling of NeRF, Mildenhall et al. 2020, eq. 2, applied to edges).
    ``spacing="linear"`` gives ``t = t_min + s (t_max - t_min)``; ``"disparity"`` gives
    ``1 / t = (1 - s) / t_min + s / t_max`` and needs ``near > 0``. A missed ray has all edges at ``near``: intervals
    of no length, whose weights are zero.

    Args:
        rays_o: origins ``[R, 3]``, any float dtype, world units.
        rays_d: directions ``[R, 3]``.
        aabb: the box ``[2, 3]``, least corner first.
        num_samples: ``S``, at least 1.
        near: least ``t`` kept.
        far: greatest ``t`` kept.
        stratified: jitter the edges.
        seed: of the jitter; the low 32 bits count. Equal seeds give equal numbers on every backend.
        spacing: ``"linear"`` or ``"disparity"``.

    Returns:
        The edges ``[R, S + 1]`` in the dtype of ``rays_o``, with the bounds of :func:`intersect_rays`.
    """
    t_min, t_max, hits = intersect_rays(rays_o, rays_d, aabb, near=near, far=far)
    index = torch.arange(num_samples + 1, device=rays_o.device, dtype=rays_o.dtype)[None]
    if stratified:
        lower = (index - 0.5).clamp(min=0.0)
        upper = (index + 0.5).clamp(max=float(num_samples))
        jitter = uniform(len(rays_o), num_samples + 1, seed, STREAM_MARCH, rays_o.device).to(rays_o.dtype)
        index = lower + (upper - lower) * jitter
    s = index / num_samples
    start, end = t_min[:, None], t_max[:, None]
    if spacing == "disparity":
        t = 1.0 / (1.0 / start + (1.0 / end - 1.0 / start) * s)
    else:
        t = start + (end - start) * s
    return RaySamples(torch.minimum(torch.maximum(t, start), end), t_min, t_max, hits)
