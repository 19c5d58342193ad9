"""Where a ray is sampled: evenly at first, then where the coarse network found something."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from nerf_metal import ops


@dataclass(frozen=True)
class Sampler:
    """Edges of the intervals along rays (Mildenhall et al. 2020, section 4 and 5.2).

    Attributes:
        num_samples: intervals of the coarse pass.
        num_importance: edges that the fine pass adds.
        near: least distance along a ray, world units.
        far: greatest distance, world units.
        backend: of the kernels, see :mod:`nerf_metal.ops`.
    """

    num_samples: int
    num_importance: int
    near: float
    far: float
    backend: str = "auto"

    def coarse_edges(
        self, rays_o: torch.Tensor, rays_d: torch.Tensor, aabb: torch.Tensor, *, stratified: bool, seed: int
    ) -> torch.Tensor:
        """Edges ``[R, num_samples + 1]`` through the box for rays ``[R, 3]``, jittered if ``stratified``."""
        return ops.march_rays(
            rays_o,
            rays_d,
            aabb,
            self.num_samples,
            near=self.near,
            far=self.far,
            stratified=stratified,
            seed=seed,
            backend=self.backend,
        ).t_edges

    def fine_edges(self, t_edges: torch.Tensor, weights: torch.Tensor, *, stratified: bool, seed: int) -> torch.Tensor:
        """The coarse edges and ``num_importance`` more where ``weights [R, num_samples]`` are, sorted."""
        return ops.sample_importance(
            t_edges,
            weights.detach(),
            self.num_importance,
            stratified=stratified,
            seed=seed,
            backend=self.backend,
        )
