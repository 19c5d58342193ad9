"""Sampling of rays: evenly for the coarse network, then at the densities that the coarse network found."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from nerf_metal import ops


@dataclass(frozen=True)
class Sampler:
    """The sampler that gives the edges of the intervals along rays (Mildenhall et al. 2020, sections 4 and 5.2).

    Attributes:
        num_samples: number of intervals of the coarse pass.
        num_importance: number of edges that the fine pass adds.
        near: least distance along a ray, world units.
        far: greatest distance along a ray, world units.
        backend: implementation of the kernels, see :mod:`nerf_metal.ops`.
    """

    num_samples: int
    num_importance: int
    near: float
    far: float
    backend: str = "auto"

    def coarse_edges(
        self, rays_o: torch.Tensor, rays_d: torch.Tensor, aabb: torch.Tensor, *, stratified: bool, seed: int
    ) -> torch.Tensor:
        """Return the edges ``[R, num_samples + 1]`` of the intervals of the coarse pass, from entry to exit of the box.

        Args:
            rays_o: origins of the rays, ``[R, 3]``, world units.
            rays_d: directions of the rays, ``[R, 3]``, unit length.
            aabb: box ``[2, 3]``, world units.
            stratified: jitter the edges, for training.
            seed: seed of the jitter.
        """
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
        """Return the edges of the coarse pass together with ``num_importance`` new ones, sorted.

        Args:
            t_edges: edges of the coarse pass, ``[R, num_samples + 1]``.
            weights: compositing weights of the coarse pass, ``[R, num_samples]``. The new edges lie where they are
                large.
            stratified: jitter the new edges, for training.
            seed: seed of the jitter.
        """
        return ops.sample_importance(
            t_edges,
            weights.detach(),
            self.num_importance,
            stratified=stratified,
            seed=seed,
            backend=self.backend,
        )
