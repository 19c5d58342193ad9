"""Importance sampling in pure torch: the specification of ``metal/importance.metal``.

It uses neither ``sort`` nor ``searchsorted`` nor ``cumprod``, which fall back to the CPU or give wrong results on some
versions of MPS. Intervals are found by counting, and the sorted union is found by rank.
"""

from __future__ import annotations

import torch

from nerf_metal.reference.random import STREAM_IMPORTANCE, uniform


@torch.no_grad()
def sample_importance(
    t_edges: torch.Tensor,
    weights: torch.Tensor,
    num_samples: int,
    *,
    stratified: bool = False,
    seed: int = 0,
    weight_floor: float = 1e-5,
    merge: bool = True,
) -> torch.Tensor:
    """Draw edges where the coarse weights are large (Mildenhall et al. 2020, "NeRF", section 5.2).

    The weights of the ``S`` intervals, with negative weights as 0, plus ``weight_floor`` make a piecewise-constant
    density along the ray. Its cumulative distribution is inverted at ``u_k = (k + 0.5) / N``, or with ``stratified`` at
    ``u_k = (k + r) / N`` with ``r`` uniform in [0, 1). No gradient flows, as in the paper.

    Args:
        t_edges: edges of the intervals ``[R, S + 1]``, not decreasing along a ray, any float dtype.
        weights: weights of the intervals ``[R, S]``, same dtype.
        num_samples: number ``N`` of edges to draw for each ray.
        stratified: draw ``r`` at random.
        seed: seed of the random numbers; its low 32 bits count.
        weight_floor: constant added to every weight, so that every interval can be drawn and a ray without weights is
            defined; 1e-5 as in the authors' code.
        merge: return the sorted union of the new edges with ``t_edges``.

    Returns:
        Sorted edges ``[R, S + 1 + N]``, or the new edges ``[R, N]`` alone if ``merge`` is False.
    """
    rows, intervals = weights.shape
    mass = weights.clamp(min=0.0) + weight_floor
    cdf = mass.cumsum(-1)
    step = torch.arange(num_samples, device=weights.device, dtype=weights.dtype)[None]
    if stratified:
        jitter = uniform(rows, num_samples, seed, STREAM_IMPORTANCE, weights.device).to(weights.dtype)
    else:
        jitter = torch.full_like(step, 0.5)
    target = (step + jitter) / num_samples * cdf[:, -1:]
    # [R, N, S] comparisons instead of a search: every device has them.
    index = (cdf[:, None, :] <= target[:, :, None]).sum(-1).clamp(max=intervals - 1)
    mass_at = mass.gather(1, index)
    fraction = ((target - (cdf.gather(1, index) - mass_at)) / mass_at).clamp(0.0, 1.0)
    start, end = t_edges.gather(1, index), t_edges.gather(1, index + 1)
    drawn = torch.minimum(start + (end - start) * fraction, end)
    if not merge:
        return drawn
    # The place of an edge in the union is its own index plus the number of other edges before it.
    drawn_rank = step.long() + (t_edges[:, None, :] <= drawn[:, :, None]).sum(-1)
    edge_index = torch.arange(intervals + 1, device=weights.device)[None]
    edge_rank = edge_index + (drawn[:, None, :] < t_edges[:, :, None]).sum(-1)
    union = torch.empty((rows, intervals + 1 + num_samples), device=t_edges.device, dtype=t_edges.dtype)
    union.scatter_(1, drawn_rank, drawn)
    return union.scatter_(1, edge_rank, t_edges)
