"""The hash-grid field: from a point and a direction to a density and a colour."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from nerf_metal.models.coarse_fine.field import trunc_exp
from nerf_metal.nn import FusedMLP, HashEncoding, SphericalHarmonics

GEOMETRY = 16
"""Outputs of the density network: the logarithm of the density, and all that the colour network is told of the place
(Müller et al. 2022, section 5.4)."""
SH_DEGREE = 4
"""Degree of the directions' spherical harmonics: 16 numbers, and with the geometry two whole tiles of the fused
network."""


class Geometry(NamedTuple):
    """What the density network says of points: ``features [S, L * F]`` of the hash grid, ``values [S, 16]``."""

    features: torch.Tensor
    values: torch.Tensor


class HashField(nn.Module):
    """instant-ngp's field (Müller et al. 2022, section 5.4): a hash grid, a network of one hidden layer to density and
    16 numbers, and one of two hidden layers from these and the direction's spherical harmonics to a colour.

    Args:
        aabb: the box ``[2, 3]`` float32, world units. Part of the weights: a checkpoint carries it.
        cascades: number of boxes, each twice as large as the one before. What is outside of the first is contracted.
        levels: number of levels of the hash grid.
        features: numbers of an entry: 1, 2, 4 or 8.
        log2_table_size: most entries of a level, as a power of two.
        base_resolution: cells of the coarsest level along an axis of the box.
        finest_resolution: cells of the finest level along an axis of the box.
        width: units of the hidden layers, at most 128.
        deterministic: make gradients equal in every run, also on a GPU.
        backend: see :mod:`nerf_metal.ops`.

    Attributes:
        encoding: the hash grid.
        density_network: from its features to :data:`GEOMETRY` numbers.
        direction_encoding: of the rays.
        color_network: from these numbers and the direction to a colour.
    """

    aabb: torch.Tensor

    def __init__(
        self,
        aabb: torch.Tensor,
        *,
        cascades: int = 1,
        levels: int,
        features: int,
        log2_table_size: int,
        base_resolution: int,
        finest_resolution: int,
        width: int,
        deterministic: bool = False,
        backend: str = "auto",
    ) -> None:
        """Make table and networks; their weights come from torch's random state."""
        super().__init__()
        self.reach = 2.0 ** (cascades - 1)
        self.register_buffer("aabb", aabb.detach().clone())
        self.encoding = HashEncoding(
            levels,
            features,
            log2_table_size,
            base_resolution,
            finest_resolution,
            deterministic=deterministic,
            grad_in_place=True,  # a tensor as large as the table less in each step
            backend=backend,
        )
        self.density_network = FusedMLP(self.encoding.output_width, GEOMETRY, width, 1, backend=backend)
        self.direction_encoding = SphericalHarmonics(SH_DEGREE, backend=backend)
        color_inputs = GEOMETRY + self.direction_encoding.output_width
        self.color_network = FusedMLP(color_inputs, 3, width, 2, "sigmoid", backend=backend)

    def normalized(self, positions: torch.Tensor) -> torch.Tensor:
        """World positions ``[S, 3]`` to [0, 1].

        With one cascade over the box, axis by axis. With more the box takes the middle half or so, and what is around
        it the rest: ``x`` in units of half the box goes to ``x`` inside and to ``(2 - 1 / |x|) x / |x|`` outside, where
        ``|x|`` is the largest of the three, so that boxes stay boxes (Barron et al. 2022, "Mip-NeRF 360", equation 10,
        with this norm as nerfstudio has it); the last box ends at ``2 - 1 / 2^(cascades - 1)``.
        """
        unit = (positions - self.aabb[0]) / (self.aabb[1] - self.aabb[0])
        if self.reach == 1.0:
            return unit
        x = 2.0 * unit - 1.0
        norm = x.abs().amax(-1, keepdim=True).clamp(min=1.0)
        return x * ((2.0 - 1.0 / norm) / norm * (0.5 / (2.0 - 1.0 / self.reach))) + 0.5

    def geometry(self, positions: torch.Tensor, known: Geometry | None = None) -> Geometry:
        """Evaluate grid and density network at world positions ``[S, 3]``.

        Args:
            positions: ``[S, 3]``, world units.
            known: the result, where an evaluation without gradients gave it.
        """
        known_features, known_values = (None, None) if known is None else known
        features = self.encoding(self.normalized(positions), known=known_features)
        return Geometry(features, self.density_network(features, known=known_values))

    def sigmas(self, geometry: Geometry) -> torch.Tensor:
        """Return the densities ``[S]``, 1 / world unit."""
        return trunc_exp(geometry.values[:, 0])

    def density(self, positions: torch.Tensor) -> torch.Tensor:
        """Return the densities ``[S]`` at world positions ``[S, 3]``."""
        return self.sigmas(self.geometry(positions))

    def rgbs(self, geometry: Geometry, directions: torch.Tensor, ray_indices: torch.Tensor) -> torch.Tensor:
        """Return the colours ``[S, 3]`` of samples on rays.

        Args:
            geometry: of the samples.
            directions: of the rays, ``[R, 3]``, unit length.
            ray_indices: the ray of each sample, ``[S]``.
        """
        # a ray's direction is encoded once, not once for each of its samples
        along = self.direction_encoding(directions)
        rgbs: torch.Tensor = self.color_network(torch.cat((geometry.values, along.index_select(0, ray_indices)), -1))
        return rgbs
