"""Rendering through an occupancy grid: packed samples in occupied cells, up to the first opaque surface."""

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
"""Bounds of the windows in which the samples of a ray are evaluated. A window is evaluated only for rays whose
transmittance is left, because half of the marched samples lie behind a surface. A launch for fewer than 16 samples of a
ray would cost more than the samples."""


@dataclass(frozen=True)
class GridSampler:
    """The sampler of rays through an occupancy grid.

    Attributes:
        step_size: length of a sample, world units.
        near: least distance along a ray, world units.
        far: greatest distance along a ray, world units.
        early_stop_eps: transmittance below which samples behind are left out.
        cone_angle: growth of the length of samples with their distance, in a grid of several cascades.
        backend: implementation of the kernels, see :mod:`nerf_metal.ops`.
    """

    step_size: float
    near: float
    far: float
    early_stop_eps: float = 1e-4  # below the half step of an 8-bit image; as in instant-ngp
    cone_angle: float = 0.0
    backend: str = "auto"


class Samples(NamedTuple):
    """The ``S`` packed samples of ``R`` rays.

    Attributes:
        packed_info: index of the first sample and number of samples of each ray, int32 ``[R, 2]``.
        ray_indices: index of each sample's ray, ``[S]``.
        t_starts: distances along the rays at which the samples begin, ``[S]``, world units.
        t_ends: distances at which they end, ``[S]``, world units.
        positions: middles of the samples, ``[S, 3]``, world units.
        geometry: results of the hash grid and of the density network.
    """

    packed_info: torch.Tensor
    ray_indices: torch.Tensor
    t_starts: torch.Tensor
    t_ends: torch.Tensor
    positions: torch.Tensor
    geometry: Geometry

    def on_rays(self, rays_o: torch.Tensor, rays_d: torch.Tensor) -> Samples:
        """Return the samples with positions that have gradients to their rays. The distances have no gradients.

        Args:
            rays_o: origins of the rays, ``[R, 3]``, world units.
            rays_d: directions of the rays, ``[R, 3]``, unit length.
        """
        ray, middles = self.ray_indices, 0.5 * (self.t_starts + self.t_ends)
        return self._replace(positions=rays_o.index_select(0, ray) + middles[:, None] * rays_d.index_select(0, ray))


class _Window(NamedTuple):
    """The samples that are evaluated together.

    Attributes:
        first: index of the first sample of each ray.
        packed_info: index of the first sample in the window and number of samples, of each ray, int32 ``[R, 2]``.
        visible: number of visible samples of each ray, ``[R]``.
        geometry: results of the hash grid and of the density network.
    """

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
    """March rays through the grid and keep the visible samples.

    Samples behind a surface cost a density, but no colour and no gradient (Müller et al. 2022, appendix E.1).

    With ``max_samples``, two numbers are read back from the device, once and together: the number of visible samples,
    for which memory is then allocated, and the number of marched ones. Without it, the number of samples of each window
    is read back too. This costs nothing on a CPU, and saves the evaluation behind the surfaces in the first windows.

    Args:
        field: field that gives the densities, without gradients.
        grid: occupancy grid with the same box.
        sampler: sampler of the rays.
        rays_o: origins of the rays, ``[R, 3]``, world units.
        rays_d: directions of the rays, ``[R, 3]``, unit length.
        stratified: jitter the samples, for training.
        seed: seed of the jitter.
        max_samples: largest number of marched samples, which are all evaluated in one window. Further samples are left
            out. None: no limit.

    Returns:
        The visible samples, and the number of marched samples.
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
    # Both numbers are read back together, so the device is waited for once.
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
    """Compute the colours of visible samples and composite them, with gradients to the field if they are enabled.

    Args:
        field: field that gives the colours. Known densities are not computed again.
        sampler: sampler of the rays, which names the backend.
        samples: samples of :func:`visible_samples`.
        rays_d: directions of the rays, ``[R, 3]``, unit length.
        background: background color, ``[3]`` or ``[R, 3]``.
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
    """Render many rays without gradients, one chunk at a time.

    Args:
        field: field to render.
        grid: occupancy grid with the same box.
        sampler: sampler of the rays.
        rays_o: origins of the rays, ``[R, 3]``, world units, on the field's device.
        rays_d: directions of the rays, ``[R, 3]``, unit length.
        background: background color, ``[3]``.
        rays_per_chunk: number of rays marched at once.
    """
    parts = []
    for o, d in zip(rays_o.split(rays_per_chunk), rays_d.split(rays_per_chunk), strict=True):
        samples, _ = visible_samples(field, grid, sampler, o, d)
        parts.append(RenderedPixels.of(render_samples(field, sampler, samples, d, background)))
    return RenderedPixels.join(parts)
