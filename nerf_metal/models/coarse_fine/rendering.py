"""Rendering with both networks: sample rays, evaluate a network and composite, first coarse and then fine."""

from __future__ import annotations

from typing import NamedTuple

import torch

from nerf_metal import ops
from nerf_metal.models.coarse_fine.field import CoarseFineField, NerfField
from nerf_metal.models.coarse_fine.sampler import Sampler
from nerf_metal.models.pixels import RenderedPixels
from nerf_metal.ops import Composited


class RenderedRays(NamedTuple):
    """The composited rays of both passes.

    Attributes:
        fine: result of the fine network, which is the picture.
        coarse: result of the coarse network, which also gets a loss in training.
    """

    fine: Composited
    coarse: Composited


def render_rays(
    model: CoarseFineField,
    sampler: Sampler,
    rays_o: torch.Tensor,
    rays_d: torch.Tensor,
    *,
    background: torch.Tensor,
    stratified: bool = False,
    seed: int = 0,
) -> RenderedRays:
    """Render rays with both networks (Mildenhall et al. 2020, sections 4 and 5.2).

    Args:
        model: networks with their box.
        sampler: sampler of the rays.
        rays_o: origins of the rays, ``[R, 3]``, world units.
        rays_d: directions of the rays, ``[R, 3]``, unit length.
        background: background color, ``[3]`` or ``[R, 3]``.
        stratified: jitter the samples, for training.
        seed: seed of the jitter.
    """
    edges = sampler.coarse_edges(rays_o, rays_d, model.aabb, stratified=stratified, seed=seed)
    coarse = _shade(model, model.coarse, sampler, rays_o, rays_d, edges, background)
    edges = sampler.fine_edges(edges, coarse.weights, stratified=stratified, seed=seed)
    fine = _shade(model, model.fine, sampler, rays_o, rays_d, edges, background)
    return RenderedRays(fine, coarse)


def _shade(
    model: CoarseFineField,
    field: NerfField,
    sampler: Sampler,
    rays_o: torch.Tensor,
    rays_d: torch.Tensor,
    edges: torch.Tensor,
    background: torch.Tensor,
) -> Composited:
    """Evaluate a network in the middle of every interval, and composite."""
    t_starts, t_ends = edges[:, :-1], edges[:, 1:]  # views: the kernels read them in place
    middles = 0.5 * (t_starts + t_ends)
    positions = rays_o[:, None] + middles[..., None] * rays_d[:, None]
    rgbs, sigmas = field(model.normalized(positions), rays_d)
    return ops.composite_rays(t_starts, t_ends, rgbs, sigmas, background=background, backend=sampler.backend)


@torch.no_grad()
def render_image(
    model: CoarseFineField,
    sampler: Sampler,
    rays_o: torch.Tensor,
    rays_d: torch.Tensor,
    *,
    background: torch.Tensor,
    rays_per_chunk: int,
) -> RenderedPixels:
    """Render many rays without gradients, one chunk at a time.

    Rays that miss the box show the background. The networks are not evaluated for them.

    Args:
        model: networks with their box.
        sampler: sampler of the rays.
        rays_o: origins of the rays, ``[R, 3]``, world units, on the model's device.
        rays_d: directions of the rays, ``[R, 3]``, unit length.
        background: background color, ``[3]``.
        rays_per_chunk: number of rays rendered at once, see :func:`nerf_metal.models.memory.chunk_rays`.
    """
    bounds = ops.intersect_rays(rays_o, rays_d, model.aabb, near=sampler.near, far=sampler.far, backend=sampler.backend)
    nothing = torch.zeros_like(rays_o[:, 0])
    picture = RenderedPixels(background.expand(len(rays_o), 3).clone(), nothing, nothing.clone())
    hits = bounds.hits.nonzero()[:, 0]
    for chunk in hits.split(rays_per_chunk) if len(hits) else ():  # split of an empty tensor gives one empty chunk
        rendered = render_rays(model, sampler, rays_o[chunk], rays_d[chunk], background=background)
        for whole, part in zip(picture, RenderedPixels.of(rendered.fine), strict=True):
            whole[chunk] = part
    return picture
