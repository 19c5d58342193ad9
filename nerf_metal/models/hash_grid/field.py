"""The hash-grid field: from a point and a direction to a density and a colour."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import torch
from torch import nn

from nerf_metal import ops
from nerf_metal.models.coarse_fine.field import trunc_exp

GEOMETRY = 16
"""Numbers that the density network gives: the logarithm of the density, and with it what the colour network is told
of the place (Müller et al. 2022, section 5.4)."""
SH_DEGREE = 4
"""Of the directions' spherical harmonics: 16 numbers, and with the geometry two whole tiles of the fused network."""
INITIAL_TABLE = 1e-4
"""Entries start uniform within this: every place alike, and no two entries equal (Müller et al. 2022, section 4)."""


class Geometry(NamedTuple):
    """What the density network says of points: ``features [S, L * F]`` of the hash grid, ``values [S, 16]``."""

    features: torch.Tensor
    values: torch.Tensor


class HashField(nn.Module):
    """instant-ngp's field (Müller et al. 2022, section 5.4): a hash grid, a network of one hidden layer to density and
    16 numbers, and one of two hidden layers from these and the direction's spherical harmonics to a colour.

    Args:
        aabb: the box ``[2, 3]`` float32, world units. Part of the weights: a checkpoint carries it.
        cascades: boxes, each twice as large as the one before; what is outside of the first is contracted.
        levels: of the hash grid.
        features: of an entry: 1, 2, 4 or 8.
        log2_table_size: most entries of a level, as a power of two.
        base_resolution: cells of the coarsest level along an axis of the box.
        finest_resolution: of the finest.
        width: of the hidden layers, at most 128.
        deterministic: equal gradients in every run, also on a GPU.
        backend: see :mod:`nerf_metal.ops`.
    """

    aabb: torch.Tensor
    levels: torch.Tensor

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
        self.deterministic, self.backend = deterministic, backend
        self.reach = 2.0 ** (cascades - 1)
        self.register_buffer("aabb", aabb.detach().clone())
        grid = ops.hashgrid_levels(levels, base_resolution, finest_resolution, log2_table_size)
        self.register_buffer("levels", grid, persistent=False)
        entries = int(grid[-1, 1] + grid[-1, 2])
        self.table = nn.Parameter(torch.empty(entries, features).uniform_(-INITIAL_TABLE, INITIAL_TABLE))
        self.density_weights = _layers(levels * features, width, GEOMETRY)
        self.color_weights = _layers(GEOMETRY + SH_DEGREE**2, width, width, 3)

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
            positions: ``[S, 3]``, world units; constants.
            known: the result, where an evaluation without gradients gave it.
        """
        features = ops.hashgrid_encode(
            self.normalized(positions),
            self.table,
            self.levels,
            deterministic=self.deterministic,
            known=None if known is None else known.features,
            grad_table=self.table.grad if torch.is_grad_enabled() else None,
            backend=self.backend,
        )
        values = ops.mlp(
            features,
            list(self.density_weights),
            known=None if known is None else known.values,
            backend=self.backend,
        )
        return Geometry(features, values)

    def sigmas(self, geometry: Geometry) -> torch.Tensor:
        """Densities ``[S]``, 1 / world unit."""
        return trunc_exp(geometry.values[:, 0])

    def density(self, positions: torch.Tensor) -> torch.Tensor:
        """Densities ``[S]`` at world positions ``[S, 3]``."""
        return self.sigmas(self.geometry(positions))

    def rgbs(self, geometry: Geometry, directions: torch.Tensor, ray_indices: torch.Tensor) -> torch.Tensor:
        """Colours ``[S, 3]`` of samples on rays.

        Args:
            geometry: of the samples.
            directions: of the rays, ``[R, 3]``, unit length.
            ray_indices: ``[S]``, the ray of each sample.
        """
        # a ray's direction is encoded once, not once for each of its samples
        along = ops.spherical_harmonics(directions, SH_DEGREE, backend=self.backend)
        inputs = torch.cat((geometry.values, along.index_select(0, ray_indices)), -1)
        return ops.mlp(inputs, list(self.color_weights), output_activation="sigmoid", backend=self.backend)


def _layers(*widths: int) -> nn.ParameterList:
    """Weights ``[out, in]`` of a network without biases, by Glorot and Bengio 2010."""
    weights = [torch.empty(out, into) for into, out in itertools.pairwise(widths)]
    return nn.ParameterList(nn.Parameter(nn.init.xavier_uniform_(weight)) for weight in weights)
