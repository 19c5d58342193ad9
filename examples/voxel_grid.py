"""A model of your own: a dense grid of densities and colours, as in Plenoxels and DVGO, trained by the project's loop.

    python -m nerf_metal train --field examples.voxel_grid:VoxelGrid --field-options resolution=64 --max-seconds 30
    python -m nerf_metal render runs/RUN --path orbit

Nothing else in the project knows this file. It shows all that a model has to say: five members and its options.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import nn

from nerf_metal import ops
from nerf_metal.data import RayBatch, Split
from nerf_metal.models import Model, RenderedPixels, Space, StepLoss, option

EMPTY = -3.0
"""Density at the start, before softplus: fog that a ray can see through."""
CHUNK_RAYS = 4096
"""Rays rendered at once: 50 MB of samples."""


@dataclass(frozen=True)
class VoxelGridConfig:
    """The options of the model. ``--field-options`` sets those that a run does not have by itself."""

    resolution: int = option(96, at_least=2, fixed=True)  # 3.5 million numbers: what a minute can fill
    """Number of voxel corners along an axis of the box."""
    num_steps: int = option(128, at_least=1)  # a sample is shorter than a voxel
    """Number of samples of a ray."""
    backend: str = "auto"
    """Implementation of the kernels. A run has this option by itself."""


class VoxelGrid(Model):
    """Densities and colours at the corners of voxels, in between by trilinear interpolation; the same from all sides.

    Sun et al. 2022 ("Direct Voxel Grid Optimization", equations 3 and 8) interpolate before the softplus, as here.
    """

    Config = VoxelGridConfig
    batch_rays = 2048
    aabb: torch.Tensor

    def __init__(self, config: VoxelGridConfig, space: Space) -> None:
        """Fill the scene's box with thin grey fog."""
        super().__init__(config, space)
        self.register_buffer("aabb", space.aabb.clone())
        grid = torch.zeros(1, 4, *[config.resolution] * 3)
        grid[:, 0] = EMPTY
        self.grid = nn.Parameter(grid)

    def fit_to(self, split: Split) -> None:
        """The scene's box is all that this model needs to know."""

    def loss(self, batch: RayBatch, step: int) -> StepLoss:
        """Mean squared error of the colours."""
        out = self._composited(batch.rays_o, batch.rays_d, batch.background, seed=batch.seed)
        loss = F.mse_loss(out.rgb, batch.truth)
        samples = len(batch.truth) * self.config.num_steps
        return StepLoss(loss, out.rgb.detach(), out.opacity.detach(), samples)

    @torch.no_grad()
    def render(self, rays_o: torch.Tensor, rays_d: torch.Tensor, background: torch.Tensor) -> RenderedPixels:
        """Pixels, a chunk of rays at a time."""
        chunks = zip(rays_o.split(CHUNK_RAYS), rays_d.split(CHUNK_RAYS), strict=True)
        return RenderedPixels.join(RenderedPixels.of(self._composited(o, d, background)) for o, d in chunks)

    @torch.no_grad()
    def density(self, positions: torch.Tensor) -> torch.Tensor:
        """Densities ``[S]``, 1 / world unit, at ``positions [S, 3]``."""
        return self._at(positions)[1]

    @torch.no_grad()
    def colors(self, positions: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
        """Colours ``[S, 3]`` at ``positions [S, 3]``, whatever the direction."""
        return self._at(positions)[0]

    def optimizer(self, lr: float) -> torch.optim.Optimizer:
        """Adam at ten times the rate of a network: each voxel is seen by few rays."""
        return torch.optim.Adam([{"params": [self.grid], "rate": 10.0}], lr=lr, eps=1e-15, fused=True)

    def _composited(
        self, rays_o: torch.Tensor, rays_d: torch.Tensor, background: torch.Tensor, seed: int | None = None
    ) -> Any:
        """March rays evenly through the box, jittered if there is a seed, and composite."""
        rays = ops.march_rays(
            rays_o,
            rays_d,
            self.aabb,
            self.config.num_steps,
            near=self.near,
            far=self.far,
            stratified=seed is not None,
            seed=seed or 0,
            backend=self.config.backend,
        )
        middles = 0.5 * (rays.t_starts + rays.t_ends)
        positions = rays_o[:, None] + middles[..., None] * rays_d[:, None]
        rgbs, sigmas = self._at(positions.view(-1, 3))
        rgbs, sigmas = rgbs.view(*middles.shape, 3), sigmas.view(middles.shape)
        return ops.composite_rays(
            rays.t_starts, rays.t_ends, rgbs, sigmas, background=background, backend=self.config.backend
        )

    def _at(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Colours ``[S, 3]`` and densities ``[S]``; outside of the box nothing."""
        unit = 2.0 * (positions - self.aabb[0]) / (self.aabb[1] - self.aabb[0]) - 1.0
        values = F.grid_sample(self.grid, unit.view(1, 1, 1, -1, 3), align_corners=True)[0, :, 0, 0].T
        inside = (unit.abs() <= 1.0).all(-1)
        scale = self.config.resolution / (self.aabb[1] - self.aabb[0]).max()  # a density of 1 is 1 per voxel
        return torch.sigmoid(values[:, 1:]), F.softplus(values[:, 0]) * scale * inside
