"""Importance sampling: ``metal/importance.metal``, specified by ``nerf_metal/reference/importance.py``."""

from __future__ import annotations

import torch

from nerf_metal import kernels, reference
from nerf_metal.ops.checks import (
    check_count,
    check_flags,
    check_kernel_dtype,
    check_match,
    check_numbers,
    check_seed,
    check_tensor,
    constant,
)


def sample_importance(
    t_edges: torch.Tensor,
    weights: torch.Tensor,
    num_samples: int,
    *,
    stratified: bool = False,
    seed: int = 0,
    weight_floor: float = 1e-5,
    merge: bool = True,
    backend: str = "auto",
) -> torch.Tensor:
    """Draw new edges along rays where the weights of a coarse pass are large (Mildenhall et al. 2020, section 5.2).

    :func:`nerf_metal.reference.sample_importance` specifies it.

    Args:
        t_edges: edges of the coarse intervals ``[R, S + 1]``, not decreasing along a ray, float32 (the ``torch``
            backend takes any float dtype), world units.
        weights: weights of the coarse intervals ``[R, S]``, at least 0.
        num_samples: number of edges ``N`` to draw for each ray, at least 1.
        stratified: jitter the new edges.
        seed: seed of the jitter; its low 32 bits count. Equal seeds give equal numbers on every backend.
        weight_floor: number added to every weight, above 0. The default is that of NeRF's code.
        merge: return the sorted union with ``t_edges``; if False, the new edges alone.
        backend: ``"auto"``, ``"metal"``, ``"host"`` or ``"torch"``.

    Returns:
        Sorted edges ``[R, S + 1 + N]``, or ``[R, N]`` without ``merge``. They have no gradient.

    Raises:
        ValueError: if a shape, device or number is wrong, or if the backend cannot be used.
        TypeError: if a type or dtype is wrong.
    """
    op = "sample_importance"
    check_tensor(op, "weights", weights)
    if weights.dim() != 2 or weights.shape[1] == 0:
        raise ValueError(f"[{op}] weights must have shape (R, S) with S at least 1, got {tuple(weights.shape)}")
    rows, intervals = weights.shape
    check_match(op, "t_edges", t_edges, "weights", weights, (rows, intervals + 1), ", one more column than weights")
    check_count(op, "num_samples", num_samples)
    check_seed(op, seed)
    check_flags(op, stratified=stratified, merge=merge)
    check_numbers(op, weight_floor=weight_floor)
    if not 0 < weight_floor < float("inf"):
        raise ValueError(f"[{op}] weight_floor must be above 0, got {weight_floor}; NeRF uses 1e-5")
    backend = kernels.resolve(op, backend, weights)
    check_kernel_dtype(op, "weights", weights, backend)
    if backend == "torch":
        return reference.sample_importance(
            t_edges,
            weights,
            num_samples,
            stratified=stratified,
            seed=seed,
            weight_floor=weight_floor,
            merge=merge,
        )
    out = weights.new_empty((rows, num_samples + (intervals + 1 if merge else 0)))
    params = {
        "n_rays": rows,
        "n_samples": intervals,
        "n_importance": num_samples,
        "stratified": int(bool(stratified)),
        "merge": int(bool(merge)),
        "seed": seed & 0xFFFFFFFF,
        "weight_floor": weight_floor,
    }
    inputs = constant(t_edges), constant(weights)
    kernels.launch("importance_forward_f32", [*inputs, out], params, (rows,), backend=backend)
    return out
