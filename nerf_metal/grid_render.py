"""Rendering through an occupancy grid: packed samples, only where something is, only as far as one can see."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import NamedTuple

import torch

from nerf_metal import ops
from nerf_metal.hash_field import Geometry, HashField
from nerf_metal.occupancy_grid import OccupancyGrid
from nerf_metal.ops import Composited

WINDOWS = (0, 16, 48, ops.MOST_SAMPLES_PER_RAY)
"""A ray's samples are evaluated so many at a time, and the next ones only where light is left: half of what is marched
lies behind a surface, and a launch for less than 16 samples of a ray costs more than they do."""


@dataclass(frozen=True)
class GridSampler:
    """Where along rays the field is sampled.

    Attributes:
        step_size: length of a sample, world units.
        near: least distance along a ray, world units.
        far: greatest distance, world units.
        early_stop_eps: transmittance below which nothing behind counts.
        backend: of the kernels, see :mod:`nerf_metal.ops`.
    """

    step_size: float
    near: float
    far: float
    early_stop_eps: float = 1e-4  # below the half step of an 8-bit image; as in instant-ngp
    backend: str = "auto"


class Samples(NamedTuple):
    """Packed samples of ``R`` rays: ``packed_info [R, 2]`` (start, count), ``ray_indices [S]``, ``t_starts [S]``,
    ``t_ends [S]``, ``positions [S, 3]``, world units, and what the density network says of them."""

    packed_info: torch.Tensor
    ray_indices: torch.Tensor
    t_starts: torch.Tensor
    t_ends: torch.Tensor
    positions: torch.Tensor
    geometry: Geometry


@torch.no_grad()
def visible_samples(
    field: HashField,
    grid: OccupancyGrid,
    sampler: GridSampler,
    rays_o: torch.Tensor,
    rays_d: torch.Tensor,
    *,
    stratified: bool = False,
    seed: int = 0,
    max_samples: int | None = None,
) -> tuple[Samples, int]:
    """March rays through the grid and keep what transmittance reaches: samples behind a surface cost a density, no
    colour and no gradient (Müller et al. 2022, appendix E.1).

    What is read back: the number of marched samples (not with ``max_samples``), of each window's and of those kept
    (``nonzero``), up to five small numbers in all.

    Args:
        field: evaluated for densities, without gradients.
        grid: of the same box.
        sampler: where to sample.
        rays_o: ``[R, 3]``, world units.
        rays_d: ``[R, 3]``, unit length.
        stratified: jitter the samples, for training.
        seed: of the jitter.
        max_samples: bound of the buffer of marched samples; None reads their number.

    Returns:
        The visible samples, and how many were marched (or the bound).
    """
    marched = ops.traverse_grid(
        rays_o,
        rays_d,
        grid.aabb,
        grid.bits,
        resolution=grid.resolution,
        levels=grid.levels,
        step_size=sampler.step_size,
        near=sampler.near,
        far=sampler.far,
        stratified=stratified,
        seed=seed,
        max_samples=max_samples,
        backend=sampler.backend,
    )
    packed_info, ray_indices, t_starts, t_ends = marched
    middles = 0.5 * (t_starts + t_ends)
    positions = torch.addcmul(
        rays_o.index_select(0, ray_indices), middles[:, None], rays_d.index_select(0, ray_indices)
    )
    starts = packed_info[:, 0].long()
    rank = torch.arange(len(t_starts), device=starts.device) - starts.index_select(0, ray_indices)
    sigmas = t_starts.new_zeros(len(t_starts))
    where = torch.full_like(rank, -1)  # of each sample among those evaluated
    parts: list[Geometry] = []
    evaluated = 0
    alive = torch.ones(len(rays_o), dtype=torch.bool, device=starts.device)
    transmittance = sigmas
    for first, last in itertools.pairwise(WINDOWS):
        window = ((rank >= first) & (rank < last) & alive.index_select(0, ray_indices)).nonzero()[:, 0]
        if not len(window):
            break
        parts.append(field.geometry(positions.index_select(0, window)))
        sigmas[window] = field.sigmas(parts[-1])
        where[window] = torch.arange(evaluated, evaluated + len(window), device=where.device)
        evaluated += len(window)
        composited = ops.composite_rays(
            t_starts,
            t_ends,
            positions,  # any colours: the picture is not asked for
            sigmas,
            packed_info=packed_info,
            early_stop_eps=sampler.early_stop_eps,
            backend=sampler.backend,
        )
        transmittance = composited.transmittance
        alive = composited.opacity < 1.0 - sampler.early_stop_eps
    visible = (transmittance > 0.0) & (where >= 0)  # where light has just gone, rounding may say otherwise
    before = torch.nn.functional.pad(visible.cumsum(0, dtype=torch.int32), (1, 0))
    begin = before[starts]
    counts = before[starts + packed_info[:, 1]] - begin
    kept = visible.nonzero()[:, 0]
    source = where.index_select(0, kept)
    parts = parts or [field.geometry(positions)]  # of no samples
    geometry = Geometry(*(torch.cat(tensors).index_select(0, source) for tensors in zip(*parts, strict=True)))
    samples = Samples(
        torch.stack((begin, counts), -1),
        ray_indices.index_select(0, kept),
        t_starts.index_select(0, kept),
        t_ends.index_select(0, kept),
        positions.index_select(0, kept),
        geometry,
    )
    return samples, len(t_starts)


def render_samples(
    field: HashField,
    sampler: GridSampler,
    samples: Samples,
    rays_d: torch.Tensor,
    background: torch.Tensor,
) -> Composited:
    """Colours and composite of visible samples, with gradients to the field where they are enabled.

    Args:
        field: evaluated at the samples; densities that are known are not evaluated again.
        sampler: gives the backend.
        samples: of :func:`visible_samples`.
        rays_d: ``[R, 3]``, unit length.
        background: ``[3]`` or ``[R, 3]``.
    """
    geometry = field.geometry(samples.positions, samples.geometry) if torch.is_grad_enabled() else samples.geometry
    rgbs = field.rgbs(geometry, rays_d, samples.ray_indices)
    return ops.composite_rays(
        samples.t_starts,
        samples.t_ends,
        rgbs,
        field.sigmas(geometry),
        packed_info=samples.packed_info,
        background=background,
        backend=sampler.backend,
    )


@torch.no_grad()
def render_image(
    field: HashField,
    grid: OccupancyGrid,
    sampler: GridSampler,
    rays_o: torch.Tensor,
    rays_d: torch.Tensor,
    *,
    background: torch.Tensor,
    rays_per_chunk: int,
) -> torch.Tensor:
    """Render many rays without gradients, a chunk at a time; nothing is sorted.

    Args:
        field: on its device.
        grid: of the same box.
        sampler: where to sample.
        rays_o: ``[R, 3]``, on the field's device.
        rays_d: ``[R, 3]``.
        background: ``[3]``.
        rays_per_chunk: rays marched at once.

    Returns:
        Colours ``[R, 3]``, clamped to [0, 1].
    """
    parts = []
    for o, d in zip(rays_o.split(rays_per_chunk), rays_d.split(rays_per_chunk), strict=True):
        samples, _ = visible_samples(field, grid, sampler, o, d)
        parts.append(render_samples(field, sampler, samples, d, background).rgb)
    return torch.cat(parts).clamp_(0.0, 1.0)
