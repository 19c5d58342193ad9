"""Ray marching: ``metal/march.metal``, specified by ``nerf_metal/reference/march.py``."""

from __future__ import annotations

import math

import torch

from nerf_metal import kernels, reference
from nerf_metal.ops.checks import (
    check_choice,
    check_count,
    check_flags,
    check_kernel_dtype,
    check_match,
    check_numbers,
    check_seed,
    check_vectors,
    constant,
)
from nerf_metal.reference import RayBounds, RaySamples

SPACINGS = ("linear", "disparity")
# Edges of one thread on the GPU: enough to share the ray-box test, few enough that 2 048 rays make thousands of
# threads. On the host a thread takes whole rays, as many as a vector of the widest level holds.
_EDGES_PER_THREAD = 16
_HOST_RAYS_PER_THREAD = 16


def intersect_rays(
    rays_o: torch.Tensor,
    rays_d: torch.Tensor,
    aabb: torch.Tensor,
    *,
    near: float = 0.0,
    far: float = 1e10,
    backend: str = "auto",
) -> RayBounds:
    """Intersect rays with an axis-aligned box; :func:`nerf_metal.reference.intersect_rays` specifies it.

    Args:
        rays_o: origins ``[R, 3]``, float32 (the ``torch`` backend takes any float dtype), world units.
        rays_d: directions ``[R, 3]``.
        aabb: the box ``[2, 3]``, least corner first, world units.
        near: least ``t`` along a ray, at least 0, in units of the direction's length.
        far: greatest ``t`` along a ray, above ``near``.
        backend: ``"auto"``, ``"metal"``, ``"host"`` or ``"torch"``.

    Returns:
        ``t_min [R]`` and ``t_max [R]`` where each ray enters and leaves the box, and bool ``hits [R]``. A ray that
        misses has both at ``near``. The results have no gradient.

    Raises:
        ValueError: if a shape, device or bound is wrong, or if the backend cannot be used.
        TypeError: if a type or dtype is wrong.
    """
    backend = _check("intersect_rays", rays_o, rays_d, aabb, near, far, backend)
    if backend == "torch":
        return reference.intersect_rays(rays_o, rays_d, aabb, near=near, far=far)
    rays = rays_o.shape[0]
    bounds = _empty_bounds(rays_o, rays)
    per_thread = 1 if backend == "metal" else _HOST_RAYS_PER_THREAD
    params = _params(rays, 1, near, far, rays_per_thread=per_thread)
    inputs = constant(rays_o), constant(rays_d), constant(aabb)
    grid = (-(-rays // per_thread),)
    kernels.launch("march_intersect_f32", [*inputs, *bounds], params, grid, backend=backend)
    return bounds


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
    backend: str = "auto",
) -> RaySamples:
    """Cut the part of each ray inside a box into intervals (Mildenhall et al. 2020, eq. 2).

    :func:`nerf_metal.reference.march_rays` specifies it.

    Args:
        rays_o: origins ``[R, 3]``, float32 (the ``torch`` backend takes any float dtype), world units.
        rays_d: directions ``[R, 3]``.
        aabb: the box ``[2, 3]``, least corner first, world units.
        num_samples: number of intervals ``S`` of each ray, at least 1.
        near: least ``t`` along a ray, at least 0, and above 0 for ``spacing="disparity"``, in units of the direction's
            length.
        far: greatest ``t`` along a ray, above ``near``.
        stratified: jitter the edges.
        seed: seed of the jitter; its low 32 bits count. Equal seeds give equal numbers on every backend.
        spacing: ``"linear"`` for equal steps in ``t``, or ``"disparity"`` for equal steps in ``1 / t``.
        backend: ``"auto"``, ``"metal"``, ``"host"`` or ``"torch"``.

    Returns:
        ``t_edges [R, S + 1]``, and ``t_min [R]``, ``t_max [R]``, ``hits [R]`` as :func:`intersect_rays` gives them.
        They have no gradient.

    Raises:
        ValueError: if a shape, device, bound or number is wrong, or if the backend cannot be used.
        TypeError: if a type or dtype is wrong.
    """
    op = "march_rays"
    backend = _check(op, rays_o, rays_d, aabb, near, far, backend)
    check_count(op, "num_samples", num_samples)
    check_seed(op, seed)
    check_flags(op, stratified=stratified)
    check_choice(op, "spacing", spacing, SPACINGS)
    if spacing == "disparity" and near <= 0:
        raise ValueError(f"[{op}] near must be above 0 for spacing='disparity', got {near}")
    if backend == "torch":
        return reference.march_rays(
            rays_o,
            rays_d,
            aabb,
            num_samples,
            near=near,
            far=far,
            stratified=stratified,
            seed=seed,
            spacing=spacing,
        )
    rays = rays_o.shape[0]
    t_edges = rays_o.new_empty((rays, num_samples + 1))
    bounds = _empty_bounds(rays_o, rays)
    per_thread = (1, _EDGES_PER_THREAD) if backend == "metal" else (_HOST_RAYS_PER_THREAD, num_samples + 1)
    params = _params(
        rays,
        num_samples,
        near,
        far,
        rays_per_thread=per_thread[0],
        edges_per_thread=per_thread[1],
        stratified=stratified,
        disparity=spacing == "disparity",
        seed=seed,
    )
    inputs = constant(rays_o), constant(rays_d), constant(aabb)
    grid = (num_samples // per_thread[1] + 1, -(-rays // per_thread[0]))  # S + 1 edges
    kernels.launch("march_forward_f32", [*inputs, t_edges, *bounds], params, grid, group=(8, 16), backend=backend)
    return RaySamples(t_edges, *bounds)


def _empty_bounds(rays_o: torch.Tensor, rays: int) -> RayBounds:
    return RayBounds(rays_o.new_empty(rays), rays_o.new_empty(rays), rays_o.new_empty(rays, dtype=torch.bool))


def _params(
    n_rays: int,
    n_samples: int,
    near: float,
    far: float,
    *,
    rays_per_thread: int,
    edges_per_thread: int = 1,
    stratified: bool = False,
    disparity: bool = False,
    seed: int = 0,
) -> dict[str, int | float]:
    return {
        "n_rays": n_rays,
        "n_samples": n_samples,
        "rays_per_thread": rays_per_thread,
        "edges_per_thread": edges_per_thread,
        "stratified": int(bool(stratified)),
        "disparity": int(disparity),
        "seed": seed & 0xFFFFFFFF,
        "t_near": near,
        "t_far": far,
    }


def _check(
    op: str,
    rays_o: torch.Tensor,
    rays_d: torch.Tensor,
    aabb: torch.Tensor,
    near: float,
    far: float,
    backend: str,
) -> str:
    check_vectors(op, "rays_o", rays_o, "R")
    check_match(op, "rays_d", rays_d, "rays_o", rays_o, rays_o.shape, " like rays_o")
    check_match(op, "aabb", aabb, "rays_o", rays_o, (2, 3))
    check_numbers(op, near=near, far=far)
    if not (math.isfinite(near) and near >= 0):
        raise ValueError(f"[{op}] near must be finite and at least 0, got {near}")
    if not (math.isfinite(far) and far > near):
        raise ValueError(f"[{op}] far must be finite and above near={near}, got {far}; 1e10 means no limit")
    backend = kernels.resolve(op, backend, rays_o)
    # float16 positions are too coarse to march with: auto leaves them to the reference
    check_kernel_dtype(op, "rays_o", rays_o, backend)
    return backend
