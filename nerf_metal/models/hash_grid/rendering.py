"""Rendering through an occupancy grid: packed samples, only where something is, only as far as one can see."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import NamedTuple

import torch

from nerf_metal import ops
from nerf_metal.models.hash_grid.field import Geometry, HashField
from nerf_metal.models.pixels import RenderedPixels
from nerf_metal.nn.occupancy_grid import OccupancyGrid
from nerf_metal.ops import Composited, pack_counts

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
        cone_angle: growth of samples with their distance, in a grid of several cascades.
        backend: of the kernels, see :mod:`nerf_metal.ops`.
    """

    step_size: float
    near: float
    far: float
    early_stop_eps: float = 1e-4  # below the half step of an 8-bit image; as in instant-ngp
    cone_angle: float = 0.0
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

    def on_rays(self, rays_o: torch.Tensor, rays_d: torch.Tensor) -> Samples:
        """The same samples with positions that have gradients to their rays ``[R, 3]``; times are constants."""
        ray, middles = self.ray_indices, 0.5 * (self.t_starts + self.t_ends)
        return self._replace(positions=rays_o.index_select(0, ray) + middles[:, None] * rays_d.index_select(0, ray))


class _Window(NamedTuple):
    """Samples that are evaluated together: those of each ray from ``first`` on, where they lie (``packed_info``), how
    many of them light reaches ``[R]``, and what the density network says of them."""

    first: int
    packed_info: torch.Tensor
    visible: torch.Tensor
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

    With ``max_samples`` two numbers are read back, together and once: how many samples are visible, when they get
    memory, and how many were marched. Without it each window's number is read as well: on a CPU that costs nothing, and
    what lies behind the first windows' surfaces is not evaluated.

    Args:
        field: evaluated for densities, without gradients.
        grid: of the same box.
        sampler: where to sample.
        rays_o: ``[R, 3]``, world units.
        rays_d: ``[R, 3]``, unit length.
        stratified: jitter the samples, for training.
        seed: of the jitter.
        max_samples: room for marched samples, all evaluated in one window; rays are cut where it ends.

    Returns:
        The visible samples, and how many were marched.
    """
    backend = sampler.backend
    marched = ops.traverse_grid(
        rays_o,
        rays_d,
        grid.aabb,
        grid.bits,
        resolution=grid.resolution,
        cascades=grid.cascades,
        step_size=sampler.step_size,
        cone_angle=sampler.cone_angle,
        near=sampler.near,
        far=sampler.far,
        stratified=stratified,
        seed=seed,
        max_samples=max_samples,
        backend=backend,
    )
    starts, counts = marched.packed_info.unbind(-1)
    times = marched.t_starts, marched.t_ends
    light = torch.ones_like(rays_o[:, 0])
    windows: list[_Window] = []
    for first, last in itertools.pairwise(WINDOWS if max_samples is None else (0, ops.MOST_SAMPLES_PER_RAY)):
        sizes = (counts - first).clamp(0, last - first)
        if windows:
            sizes = sizes * (light >= sampler.early_stop_eps)
        info = pack_counts(sizes)
        total = max_samples if max_samples is not None else int(sizes.sum())
        if windows and total == 0:
            break
        source = torch.stack((starts + first, sizes), -1)
        chosen = ops.visibility_gather(rays_o, rays_d, *times, source, info, total, backend=backend)
        geometry = field.geometry(chosen.positions)
        visible = ops.visibility_count(
            field.sigmas(geometry),
            chosen.t_starts,
            chosen.t_ends,
            info,
            light,
            early_stop_eps=sampler.early_stop_eps,
            backend=backend,
        )
        windows.append(_Window(first, info, visible, geometry))
    info = pack_counts(torch.stack([window.visible for window in windows]).sum(0, dtype=torch.int32))
    # The read-back: both numbers cross together.
    total, total_marched = torch.stack((info[:, 1].sum(), counts.sum())).tolist()
    kept = ops.visibility_gather(rays_o, rays_d, *times, marched.packed_info, info, total, backend=backend)
    geometry = Geometry(*(rows.new_empty((total, rows.shape[1])) for rows in windows[0].geometry))
    for window in windows:
        target = torch.stack((info[:, 0] + window.first, window.visible), -1)
        for rows, out in zip(window.geometry, geometry, strict=True):
            ops.visibility_copy(rows, window.packed_info, target, out, backend=backend)
    return Samples(info, *kept, geometry), total_marched


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
) -> RenderedPixels:
    """Render many rays without gradients, a chunk at a time; nothing is sorted.

    Args:
        field: on its device.
        grid: of the same box.
        sampler: where to sample.
        rays_o: ``[R, 3]``, on the field's device.
        rays_d: ``[R, 3]``.
        background: ``[3]``.
        rays_per_chunk: rays marched at once.
    """
    parts = []
    for o, d in zip(rays_o.split(rays_per_chunk), rays_d.split(rays_per_chunk), strict=True):
        samples, _ = visible_samples(field, grid, sampler, o, d)
        parts.append(RenderedPixels.of(render_samples(field, sampler, samples, d, background)))
    return RenderedPixels.join(parts)
