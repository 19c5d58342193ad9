"""The hash-grid field, which maps a point and a direction to a density and a colour."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from nerf_metal.models.coarse_fine.field import trunc_exp
from nerf_metal.nn import FusedMLP, HashEncoding, SphericalHarmonics

GEOMETRY = 16
"""Number of outputs of the density network (Müller et al. 2022, section 5.4). The first one is the logarithm of the
density. All of them are inputs of the colour network."""
SH_DEGREE = 4
"""Degree of the spherical harmonics of directions. They are 16 numbers, which fill two whole tiles of the fused network
together with the outputs of the density network."""


class Geometry(NamedTuple):
    """The results of the hash grid and of the density network at ``S`` points.

    Attributes:
        features: features of the hash grid, ``[S, L * F]``.
        values: outputs of the density network, ``[S, 16]``.
    """

    features: torch.Tensor
    values: torch.Tensor


class HashField(nn.Module):
    """The field of instant-ngp (Müller et al. 2022, section 5.4).

    A network with one hidden layer maps the features of a hash grid to 16 numbers. The first of them is the logarithm
    of the density. A network with two hidden layers maps these numbers and the spherical harmonics of the direction to
    a colour.

    Args:
        aabb: box float32 ``[2, 3]``, world units. It is a buffer, so a checkpoint holds it.
        cascades: number of boxes, each twice as large as the one before. Positions outside of the first are contracted.
        levels: number of levels of the hash grid.
        features: number of features of an entry: 1, 2, 4 or 8.
        log2_table_size: largest number of entries of a level, as a power of two.
        base_resolution: number of cells of the coarsest level along an axis of the box.
        finest_resolution: number of cells of the finest level along an axis of the box.
        width: number of units of a hidden layer, at most 128.
        deterministic: make gradients equal in every run, also on a GPU.
        backend: implementation of the kernels, see :mod:`nerf_metal.ops`.

    Attributes:
        reach: size of the last box, in sizes of the first.
        encoding: hash grid.
        density_network: network from the features to :data:`GEOMETRY` numbers.
        direction_encoding: spherical harmonics of the directions.
        color_network: network from these numbers and the encoded direction to a colour.
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
        """Make the table and the networks. Their initial weights are drawn from torch's random state."""
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
            grad_in_place=True,  # saves a tensor as large as the table in each step
            backend=backend,
        )
        self.density_network = FusedMLP(self.encoding.output_width, GEOMETRY, width, 1, backend=backend)
        self.direction_encoding = SphericalHarmonics(SH_DEGREE, backend=backend)
        color_inputs = GEOMETRY + self.direction_encoding.output_width
        self.color_network = FusedMLP(color_inputs, 3, width, 2, "sigmoid", backend=backend)

    def normalized(self, positions: torch.Tensor) -> torch.Tensor:
        """Map world positions ``[S, 3]`` to [0, 1].

        With one cascade, the box is mapped axis by axis. With more, positions outside of the box are contracted (Barron
        et al. 2022, "Mip-NeRF 360", equation 10): ``x``, in units of half the box, is mapped to ``x`` inside and to
        ``(2 - 1 / |x|) x / |x|`` outside. Here ``|x|`` is the largest of the three absolute values, as in nerfstudio,
        so that boxes stay boxes. The last box is mapped to ``2 - 1 / 2^(cascades - 1)``, and the result is scaled so
        that this becomes the end of [0, 1]. So the first box takes about the middle half of it.
        """
        unit = (positions - self.aabb[0]) / (self.aabb[1] - self.aabb[0])
        if self.reach == 1.0:
            return unit
        x = 2.0 * unit - 1.0
        norm = x.abs().amax(-1, keepdim=True).clamp(min=1.0)
        return x * ((2.0 - 1.0 / norm) / norm * (0.5 / (2.0 - 1.0 / self.reach))) + 0.5

    def geometry(self, positions: torch.Tensor, known: Geometry | None = None) -> Geometry:
        """Evaluate the hash grid and the density network.

        Args:
            positions: positions ``[S, 3]``, world units.
            known: result of an evaluation without gradients at the same positions, which is then not computed again.
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
            geometry: result of :meth:`geometry` at the samples.
            directions: directions of the rays, ``[R, 3]``, unit length.
            ray_indices: index of each sample's ray, ``[S]``.
        """
        # the direction of a ray is encoded once and not for each sample
        along = self.direction_encoding(directions)
        rgbs: torch.Tensor = self.color_network(torch.cat((geometry.values, along.index_select(0, ray_indices)), -1))
        return rgbs
