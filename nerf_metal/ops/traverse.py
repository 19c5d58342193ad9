"""Marching through the occupancy grid: ``metal/traverse.metal``, specified by ``nerf_metal/reference/traverse.py``."""

from __future__ import annotations

import math

import torch

from nerf_metal import kernels, reference
from nerf_metal.ops.checks import (
    check_count,
    check_flags,
    check_grid,
    check_integers,
    check_kernel_dtype,
    check_match,
    check_numbers,
    check_seed,
    check_vectors,
    constant,
)
from nerf_metal.reference import TraversedRays
from nerf_metal.reference.traverse import pack_counts

MOST_SAMPLES_PER_RAY = 2**16
"""The limit of the kernels' loops: 64 times instant-ngp's 1024."""
# Rays of one thread on the host: enough that their samples fill the pages of scratch that they touch, few enough
# that 1 024 rays are shared among threads.
_HOST_RAYS_PER_THREAD = 16


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
    backend: str = "auto",
) -> TraversedRays:
    """Sample rays in the occupied cells of a grid (Müller et al. 2022, appendix E.1).

    :func:`nerf_metal.reference.traverse_grid` specifies it; :meth:`nerf_metal.nn.OccupancyGrid.sampling` calls it.
    Without ``max_samples`` the number of samples is read back once: on a GPU the call waits for the work that was sent
    before it. With ``max_samples`` nothing is read back.

    Args:
        rays_o: origins ``[R, 3]``, float32 (the ``torch`` backend takes any float dtype), world units.
        rays_d: directions ``[R, 3]``.
        aabb: the box of the finest cascade ``[2, 3]``, least corner first.
        bits: int32 ``[cascades * resolution^3 / 32]``, bit ``i % 32`` of word ``i / 32`` is cell ``i``.
        resolution: cells of a cascade along an axis, a multiple of 4 from 8 to 256.
        cascades: number of cascades, 1 to 8.
        step_size: least step, in units of ``t``.
        cone_angle: growth of the steps with ``t``; 1/256 in instant-ngp's large scenes, no effect with one cascade.
        near: least ``t`` along a ray, at least 0.
        far: greatest ``t`` along a ray, above ``near``.
        stratified: jitter the first step of each ray.
        seed: seed of the jitter; its low 32 bits count. Equal seeds give equal numbers on every backend.
        max_samples: length of the arrays of samples. Samples that find no room are dropped. None is as many as there
            are.
        max_samples_per_ray: a ray ends after this many samples, at most 65536. The default is instant-ngp's.
        backend: ``"auto"``, ``"metal"``, ``"host"`` or ``"torch"``.

    Returns:
        ``packed_info [R, 2]`` int32 (start and count), ``ray_indices [S]`` int64, ``t_starts [S]``, ``t_ends [S]``;
        ``S`` is ``max_samples`` if given, and places that are not filled hold zeros. They have no gradient.

    Raises:
        ValueError: if a shape, device, bound or number is wrong, or if the backend cannot be used.
        TypeError: if a type or dtype is wrong.
    """
    op = "traverse_grid"
    check_vectors(op, "rays_o", rays_o, "R")
    check_match(op, "rays_d", rays_d, "rays_o", rays_o, rays_o.shape, " like rays_o")
    check_match(op, "aabb", aabb, "rays_o", rays_o, (2, 3))
    cells = check_grid(op, resolution, cascades)
    check_integers(op, "bits", bits, (cells // 32,), "rays_o", rays_o)
    _check_numbers(op, step_size, cone_angle, near, far)
    check_seed(op, seed)
    check_flags(op, stratified=stratified)
    if max_samples is not None:
        check_count(op, "max_samples", max_samples)
    if check_count(op, "max_samples_per_ray", max_samples_per_ray) > MOST_SAMPLES_PER_RAY:
        raise ValueError(
            f"[{op}] max_samples_per_ray must be at most {MOST_SAMPLES_PER_RAY}, got {max_samples_per_ray}"
        )
    rays = rays_o.shape[0]
    if rays * max_samples_per_ray >= 2**31:  # starts are int32
        raise ValueError(
            f"[{op}] rays times max_samples_per_ray must be less than 2^31, got {rays} * {max_samples_per_ray}; "
            "march fewer rays at a time"
        )
    backend = kernels.resolve(op, backend, rays_o)
    check_kernel_dtype(op, "rays_o", rays_o, backend)
    if backend == "torch":
        return reference.traverse_grid(
            rays_o,
            rays_d,
            aabb,
            bits,
            resolution=resolution,
            cascades=cascades,
            step_size=step_size,
            cone_angle=cone_angle,
            near=near,
            far=far,
            stratified=stratified,
            seed=seed,
            max_samples=max_samples,
            max_samples_per_ray=max_samples_per_ray,
        )
    per_thread = 1 if backend == "metal" else _HOST_RAYS_PER_THREAD
    blocks = bits.new_empty(-(-cascades * (resolution // 4) ** 3 // 32))
    params: dict[str, int | float] = {
        "n_rays": rays,
        "n_words": len(bits),
        "n_block_words": len(blocks),
        "n_samples": 0,
        "rays_per_thread": per_thread,
        "samples_per_ray": max_samples_per_ray,
        "resolution": resolution,
        "cascades": cascades,
        "stratified": int(bool(stratified)),
        "seed": seed & 0xFFFFFFFF,
        "step_size": step_size,
        "cone_angle": cone_angle,
        "t_near": near,
        "t_far": far,
    }
    grid = (-(-rays // per_thread),)
    bits = constant(bits)
    kernels.launch("traverse_blocks", [bits, blocks], params, (len(blocks),), backend=backend)
    inputs = [constant(rays_o), constant(rays_d), constant(aabb), bits, blocks]
    counts = bits.new_empty(rays)
    kernels.launch("traverse_count_f32", [*inputs, counts], params, grid, backend=backend)
    traversed = _arrays(rays_o, counts, max_samples)
    params["n_samples"] = len(traversed.t_starts)
    kernels.launch("traverse_write_f32", [*inputs, *traversed], params, grid, backend=backend)
    return traversed._replace(ray_indices=traversed.ray_indices.long())


def _arrays(like: torch.Tensor, counts: torch.Tensor, max_samples: int | None) -> TraversedRays:
    """Return memory for the samples of these rays, and where the samples of each ray begin in it."""
    info = pack_counts(counts)
    if max_samples is None:
        total = int(info[-1].sum().item()) if len(info) else 0
        return TraversedRays(info, counts.new_empty(total), like.new_empty(total), like.new_empty(total))
    starts, ends = info[:, 0].clamp(max=max_samples), info.sum(-1, dtype=torch.int32).clamp(max=max_samples)
    info = torch.stack((starts, ends - starts), dim=-1)
    return TraversedRays(info, counts.new_zeros(max_samples), like.new_zeros(max_samples), like.new_zeros(max_samples))


def _check_numbers(op: str, step_size: float, cone_angle: float, near: float, far: float) -> None:
    check_numbers(op, step_size=step_size, cone_angle=cone_angle, near=near, far=far)
    if not 0 < step_size < math.inf:
        raise ValueError(f"[{op}] step_size must be finite and above 0, got {step_size}")
    if not 0 <= cone_angle < math.inf:
        raise ValueError(f"[{op}] cone_angle must be finite and at least 0, got {cone_angle}; 0 keeps steps even")
    if not (math.isfinite(near) and near >= 0):
        raise ValueError(f"[{op}] near must be finite and at least 0, got {near}")
    if not (math.isfinite(far) and far > near):
        raise ValueError(f"[{op}] far must be finite and above near={near}, got {far}; 1e10 means no limit")
