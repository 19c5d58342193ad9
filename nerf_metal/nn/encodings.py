"""Encodings of positions and directions as modules: hash grid, spherical harmonics, frequencies."""

from __future__ import annotations

import math

import torch
from torch import nn

from nerf_metal import ops
from nerf_metal.ops.checks import check_count, check_flags
from nerf_metal.ops.hashgrid import FEATURES
from nerf_metal.ops.sh import MAX_DEGREE

INITIAL_TABLE = 1e-4
"""Table entries start uniform in [-1e-4, 1e-4], so that all places are nearly equal at the start and no two entries are
exactly equal (Müller et al. 2022, section 4)."""


class HashEncoding(nn.Module):
    """The multiresolution hash encoding of instant-ngp (Müller et al., SIGGRAPH 2022, section 3) for points in 3D.

    Each of ``L`` levels is a grid of its own resolution. The features of a point at a level are interpolated
    trilinearly from the table entries of the 8 grid vertices around it. :func:`nerf_metal.reference.hashgrid_encode`
    has the equations.

    Args:
        num_levels: number of levels ``L``, 1 to 64. The default of 16 is the paper's (table 1), as are the next three.
        features_per_level: numbers ``F`` of a table entry: 1, 2, 4 or 8.
        log2_table_size: the largest number of entries of a level, as a power of two, 1 to 24.
        base_resolution: cells of the coarsest level along an axis, at least 1.
        finest_resolution: cells of the finest level along an axis, ``base_resolution`` to 2^20. The default is the
            paper's for an object that fills the unit cube.
        deterministic: make the table's gradient equal in every run on a GPU too. This is slower there; on a CPU it is
            always so.
        grad_in_place: add the table's gradient to ``table.grad`` during the backward pass where that tensor exists
            already, as :class:`FusedAdam` keeps it. This saves a tensor as large as the table at every step. Autograd
            then sees no gradient of the table: ``torch.autograd.grad`` and tensor hooks do not work on it.
        backend: ``"auto"``, ``"metal"``, ``"host"`` or ``"torch"``, see :mod:`nerf_metal.ops`.

    Attributes:
        table: the entries of all levels, float32 ``[entries, F]``.

    Raises:
        ValueError: if a number is out of its range.
        TypeError: if an argument has the wrong type.
    """

    levels: torch.Tensor

    def __init__(
        self,
        num_levels: int = 16,
        features_per_level: int = 2,
        log2_table_size: int = 19,
        base_resolution: int = 16,
        finest_resolution: int = 2048,
        *,
        deterministic: bool = False,
        grad_in_place: bool = False,
        backend: str = "auto",
    ) -> None:
        """Draw the table from torch's random state."""
        super().__init__()
        if check_count("HashEncoding", "features_per_level", features_per_level) not in FEATURES:
            choices = ", ".join(map(str, FEATURES))
            raise ValueError(f"[HashEncoding] features_per_level must be one of {choices}, got {features_per_level}")
        check_flags("HashEncoding", deterministic=deterministic, grad_in_place=grad_in_place)
        self.deterministic, self.grad_in_place, self.backend = deterministic, grad_in_place, backend
        levels = ops.hashgrid_levels(num_levels, base_resolution, finest_resolution, log2_table_size)
        self.register_buffer("levels", levels, persistent=False)  # the arguments give it again
        table = torch.empty(ops.hashgrid_entries(levels), features_per_level)
        self.table = nn.Parameter(table.uniform_(-INITIAL_TABLE, INITIAL_TABLE))

    @property
    def output_width(self) -> int:
        """Columns of the result, ``L * F``."""
        return len(self.levels) * self.table.shape[1]

    def forward(self, x: torch.Tensor, *, known: torch.Tensor | None = None) -> torch.Tensor:
        """Encode points.

        Gradients flow to the table, and to ``x`` if it requires a gradient.

        Args:
            x: points ``[S, 3]`` in [0, 1], in the dtype of the table. A coordinate outside counts as the nearest one
                inside.
            known: the result ``[S, L * F]``, if a call without gradients has given it before. It is not computed
                again, and gets the gradients of a call of its own.

        Returns:
            Features ``[S, L * F]``, level by level.

        Raises:
            ValueError: if a shape or device is wrong, or the backend cannot be used.
            TypeError: if a dtype is wrong.
        """
        in_place = self.grad_in_place and torch.is_grad_enabled()
        return ops.hashgrid_encode(
            x,
            self.table,
            self.levels,
            deterministic=self.deterministic,
            known=known,
            grad_table=self.table.grad if in_place else None,
            backend=self.backend,
        )

    def extra_repr(self) -> str:
        """Return what ``print`` shows between the parentheses."""
        return f"levels={len(self.levels)}, features_per_level={self.table.shape[1]}, entries={len(self.table)}"


class SphericalHarmonics(nn.Module):
    """The real spherical harmonics of a direction, an encoding without weights.

    :func:`nerf_metal.reference.spherical_harmonics` has the formulas, their order and their signs.

    Args:
        degree: number of bands, 1 to 4. The default of 4 is instant-ngp's (Müller et al. 2022, section 5.4).
        backend: ``"auto"``, ``"metal"``, ``"host"`` or ``"torch"``, see :mod:`nerf_metal.ops`.

    Attributes:
        output_width: columns of the result, ``degree ** 2``.

    Raises:
        ValueError: if ``degree`` is out of its range.
        TypeError: if ``degree`` is not an int.
    """

    def __init__(self, degree: int = 4, *, backend: str = "auto") -> None:
        """Keep the degree; there is nothing to draw."""
        super().__init__()
        self.degree, self.backend = check_count("SphericalHarmonics", "degree", degree, most=MAX_DEGREE), backend
        self.output_width = degree**2

    def forward(self, directions: torch.Tensor) -> torch.Tensor:
        """Encode unit vectors ``[S, 3]`` to ``[S, degree ** 2]`` of the same dtype; gradients flow to them.

        The length is neither checked nor corrected.

        Raises:
            ValueError: if the shape is wrong or the backend cannot be used.
            TypeError: if the dtype is wrong.
        """
        return ops.spherical_harmonics(directions, self.degree, backend=self.backend)

    def extra_repr(self) -> str:
        """Return what ``print`` shows between the parentheses."""
        return f"degree={self.degree}"


class FrequencyEncoding(nn.Module):
    """NeRF's positional encoding (Mildenhall et al. 2020, eq. 4), with the input itself in front.

    ``gamma(p) = (p, sin(2^0 pi p), ..., sin(2^(B-1) pi p), cos(2^0 pi p), ..., cos(2^(B-1) pi p))`` for each of the
    ``C`` coordinates. The factor pi is the paper's; the authors' code leaves it out. With it, coordinates belong in
    [-1, 1], and band 0 has one period over that range. The input itself is from the authors' code; the paper leaves it
    out. It costs ``C`` columns and gives the network a linear ramp.

    Args:
        bands: number of frequencies ``B``, at least 0. With 0 the result is the input alone.
        channels: number of coordinates ``C`` of a point, at least 1.

    Attributes:
        output_width: columns of the result, ``C * (1 + 2 * bands)``.

    Raises:
        ValueError: if a number is out of its range.
        TypeError: if an argument is not an int.
    """

    frequencies: torch.Tensor

    def __init__(self, bands: int, channels: int = 3) -> None:
        """Make the frequencies. They are not weights and are not saved."""
        super().__init__()
        check_count("FrequencyEncoding", "bands", bands, least=0)
        self.output_width = check_count("FrequencyEncoding", "channels", channels) * (1 + 2 * bands)
        self.register_buffer("frequencies", math.pi * 2.0 ** torch.arange(bands), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Encode points ``[S, C]`` in [-1, 1], of any float dtype, to ``[S, output_width]`` of the same dtype.

        After the input come all sines, then all cosines, each band by band and within a band by coordinate.
        """
        angle = (self.frequencies.to(x.dtype)[:, None] * x[:, None, :]).flatten(1)
        return torch.cat((x, angle.sin(), angle.cos()), dim=-1)
