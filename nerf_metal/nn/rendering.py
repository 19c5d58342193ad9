"""Volume rendering of packed samples by a function that gives their colors and densities."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from nerf_metal import ops
from nerf_metal.ops.checks import check_count

SampleFunction = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""A function of ``t_starts [S]``, ``t_ends [S]`` and ``ray_indices [S]`` that gives ``rgbs [S, 3]`` and ``[S]``
densities or opacities."""


class Rendered(NamedTuple):
    """The result of :func:`render`.

    Attributes:
        rgb: colors ``[R, 3]``, over the background.
        opacity: the sum of the weights of each ray ``[R]``, in [0, 1].
        depth: the sum of weight times middle of the interval ``[R]``, world units. It is not divided by the opacity:
            ``depth / opacity`` is the mean distance of what the ray sees.
        weights: the share of each sample in its ray's color ``[S]``.
    """

    rgb: torch.Tensor
    opacity: torch.Tensor
    depth: torch.Tensor
    weights: torch.Tensor


def render(
    t_starts: torch.Tensor,
    t_ends: torch.Tensor,
    ray_indices: torch.Tensor,
    n_rays: int,
    *,
    rgb_sigma_fn: SampleFunction | None = None,
    rgb_alpha_fn: SampleFunction | None = None,
    packed_info: torch.Tensor | None = None,
    background: torch.Tensor | None = None,
    early_stop_eps: float = 0.0,
    backend: str = "auto",
) -> Rendered:
    """Render rays from their packed samples (Max 1995; Mildenhall et al. 2020, eq. 3).

    Sample ``i`` with density ``sigma_i`` has the opacity ``alpha_i = 1 - exp(-sigma_i (t_end_i - t_start_i))``, and the
    weight ``w_i = alpha_i prod_{j<i} (1 - alpha_j)`` over the samples ``j`` in front of it on its ray. The color of a
    ray is ``sum_i w_i rgb_i + (1 - sum_i w_i) background``. Gradients flow to colors, densities and background; times
    are constants. The arguments and the function follow ``nerfacc.rendering``.

    Args:
        t_starts: start of each sample's interval ``[S]``, float32, distance along its ray in world units.
        t_ends: end of each sample's interval ``[S]``.
        ray_indices: ray of each sample, int64 ``[S]``, in ascending order; samples of a ray from near to far.
        n_rays: number of rays ``R``, also of those without a sample, whose color is the background.
        rgb_sigma_fn: called once as ``rgb_sigma_fn(t_starts, t_ends, ray_indices)``; returns colors ``[S, 3]`` and
            densities ``[S]`` in 1 / world unit. A negative density counts as 0.
        rgb_alpha_fn: the same with opacities ``[S]`` in [0, 1] instead of densities. Give one of the two functions.
        packed_info: first sample and number of samples of each ray, int32 or int64 ``[R, 2]``, as
            :meth:`OccupancyGrid.sampling` gives it. None counts ``ray_indices``.
        background: color behind the samples, ``[3]`` or ``[R, 3]``, in [0, 1]. None is black.
        early_stop_eps: samples behind less transmittance than this are left out; 0 keeps all.
        backend: ``"auto"``, ``"metal"``, ``"host"`` or ``"torch"``, see :mod:`nerf_metal.ops`.

    Raises:
        ValueError: if a shape or device is wrong, if both or neither of the functions are given, or if the backend
            cannot be used.
        TypeError: if a type or dtype is wrong.
    """
    op = "render"
    if (rgb_sigma_fn is None) == (rgb_alpha_fn is None):
        got = "neither" if rgb_sigma_fn is None else "both"
        raise ValueError(f"[{op}] rgb_sigma_fn or rgb_alpha_fn must be given, got {got}; give one of the two")
    check_count(op, "n_rays", n_rays, least=0)
    check_indices(op, ray_indices, t_starts)
    name, function = ("rgb_sigma_fn", rgb_sigma_fn) if rgb_sigma_fn is not None else ("rgb_alpha_fn", rgb_alpha_fn)
    assert function is not None
    rgbs, values = function(t_starts, t_ends, ray_indices)
    samples = len(t_starts)
    if rgbs.shape != (samples, 3) or values.shape != (samples,):
        raise ValueError(
            f"[{op}] {name} must return tensors of shape {(samples, 3)} and {(samples,)}, got {tuple(rgbs.shape)} and "
            f"{tuple(values.shape)}; reshape what it returns"
        )
    if packed_info is None:
        packed_info = ops.pack_counts(count_samples(ray_indices, torch.ones_like(ray_indices), n_rays))
    elif packed_info.shape != (n_rays, 2):
        raise ValueError(f"[{op}] packed_info must have shape {(n_rays, 2)}, got {tuple(packed_info.shape)}")
    composited = ops.composite_rays(
        t_starts,
        t_ends,
        rgbs,
        values if rgb_sigma_fn is not None else None,
        values if rgb_sigma_fn is None else None,
        packed_info=packed_info,
        background=background,
        early_stop_eps=early_stop_eps,
        backend=backend,
    )
    return Rendered(composited.rgb, composited.opacity, composited.depth, composited.weights)


def sample_positions(
    rays_o: torch.Tensor,
    rays_d: torch.Tensor,
    t_starts: torch.Tensor,
    t_ends: torch.Tensor,
    ray_indices: torch.Tensor,
) -> torch.Tensor:
    """Return the middle of each sample's interval, ``rays_o + (t_start + t_end) / 2 * rays_d``.

    Gradients flow to the rays, so that camera poses can be optimized.

    Args:
        rays_o: origins of the rays ``[R, 3]``, world units.
        rays_d: directions of the rays ``[R, 3]``.
        t_starts: start of each sample's interval ``[S]``, distance along its ray in units of ``rays_d``'s length.
        t_ends: end of each sample's interval ``[S]``.
        ray_indices: ray of each sample, int64 ``[S]``.

    Returns:
        Positions ``[S, 3]``, world units.

    Raises:
        ValueError: if ``ray_indices`` has the wrong shape.
        TypeError: if ``ray_indices`` is not int64.
    """
    check_indices("sample_positions", ray_indices, t_starts)
    middles = 0.5 * (t_starts + t_ends)
    return rays_o.index_select(0, ray_indices) + middles[:, None] * rays_d.index_select(0, ray_indices)


def count_samples(ray_indices: torch.Tensor, counted: torch.Tensor, n_rays: int) -> torch.Tensor:
    """Return how many samples of each ray are counted: int32 ``[R]``.

    Args:
        ray_indices: ray of each sample, int64 ``[S]``.
        counted: 1 or True for a sample that counts, else 0, ``[S]``.
        n_rays: number of rays ``R``.
    """
    counts = torch.zeros(n_rays, dtype=torch.int32, device=ray_indices.device)
    return counts.scatter_add_(0, ray_indices, counted.to(torch.int32))


def check_indices(op: str, ray_indices: object, t_starts: torch.Tensor) -> None:
    """Check that there is one ray for each sample, as torch indexes with it.

    Raises:
        ValueError: if the shape is wrong.
        TypeError: if it is not an int64 tensor.
    """
    if not isinstance(ray_indices, torch.Tensor) or ray_indices.dtype != torch.int64:
        got = getattr(ray_indices, "dtype", type(ray_indices).__name__)
        raise TypeError(f"[{op}] ray_indices must be an int64 tensor, got {got}; convert it with .long()")
    if ray_indices.shape != t_starts.shape:
        raise ValueError(
            f"[{op}] ray_indices must have shape {tuple(t_starts.shape)} like t_starts, got {tuple(ray_indices.shape)}"
        )
