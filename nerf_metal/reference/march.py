"""Ray marching in pure torch: the specification of ``metal/march.metal``.

A ray is ``x(t) = rays_o + t rays_d``. ``t`` is the distance along the ray in world units if ``rays_d`` has unit norm.
``S`` intervals have ``S + 1`` edges: interval ``i`` runs from ``t_edges[:, i]`` to ``t_edges[:, i + 1]``.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from nerf_metal.reference.random import STREAM_MARCH, uniform

# A GPU that flushes denormals takes a direction component below the smallest normal float32 as zero.
_TINY = torch.finfo(torch.float32).tiny


class RayBounds(NamedTuple):
    """The part of each ray inside a box.

    Attributes:
        t_min: start of the part ``[R]``.
        t_max: end of the part ``[R]``.
        hits: True where the part has a length, bool ``[R]``.
    """

    t_min: torch.Tensor
    t_max: torch.Tensor
    hits: torch.Tensor


class RaySamples(NamedTuple):
    """Intervals along rays.

    Attributes:
        t_edges: edges of the intervals ``[R, S + 1]``, not decreasing along a ray.
        t_min: start of each ray's part inside the box ``[R]``.
        t_max: end of that part ``[R]``.
        hits: True where a ray hits the box, bool ``[R]``.
    """

    t_edges: torch.Tensor
    t_min: torch.Tensor
    t_max: torch.Tensor
    hits: torch.Tensor

    @property
    def t_starts(self) -> torch.Tensor:
        """Starts of the intervals ``[R, S]``, a view of ``t_edges``."""
        return self.t_edges[:, :-1]

    @property
    def t_ends(self) -> torch.Tensor:
        """Ends of the intervals ``[R, S]``, a view of ``t_edges``."""
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
    ``hits`` is False and ``t_min = t_max = near``. The part of a ray that starts inside the box starts at ``near``. A
    zero (or denormal) direction component sets no bound on ``t`` if the origin lies between the two faces or on one of
    them; otherwise the ray is a miss. Nothing here has a gradient: sample positions are constants to autograd in every
    NeRF.

    Args:
        rays_o: origins ``[R, 3]``, any float dtype, world units.
        rays_d: directions ``[R, 3]``.
        aabb: the box ``[2, 3]``, least corner first.
        near: least ``t`` to keep, at least 0.
        far: greatest ``t`` to keep. The default 1e10 means "no limit", as in nerfacc.

    Returns:
        The bounds, in the dtype of ``rays_o``.
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

    Edge ``i`` lies at the part ``s = i / S`` of the way. With ``stratified``, it is drawn uniformly between the middles
    of the two intervals beside it (stratified sampling of Mildenhall et al. 2020, "NeRF", eq. 2, applied to edges).
    ``spacing="linear"`` gives ``t = t_min + s (t_max - t_min)``. ``spacing="disparity"`` gives
    ``1 / t = (1 - s) / t_min + s / t_max`` and needs ``near > 0``. A ray that misses the box has all edges at ``near``:
    its intervals have no length, and their weights are zero.

    Args:
        rays_o: origins ``[R, 3]``, any float dtype, world units.
        rays_d: directions ``[R, 3]``.
        aabb: the box ``[2, 3]``, least corner first.
        num_samples: number of intervals ``S``, at least 1.
        near: least ``t`` to keep.
        far: greatest ``t`` to keep.
        stratified: draw the edges at random.
        seed: seed of the random numbers; its low 32 bits count. Equal seeds give equal numbers on every backend.
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
