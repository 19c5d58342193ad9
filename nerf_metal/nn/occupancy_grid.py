"""The occupancy grid: it remembers where the scene is empty, so that rays are sampled only elsewhere."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

from nerf_metal import ops
from nerf_metal.nn.rendering import count_samples, sample_positions
from nerf_metal.ops.checks import check_grid, check_numbers
from nerf_metal.reference import pack_bits, unpack_bits

WARMUP_UPDATES = 16
"""Updates that look at all cells: instant-ngp's 256 first steps of training, of which every 16th updates the grid."""
OPAQUE_STEP = 0.01
"""Optical thickness of a step from which a cell counts as occupied: instant-ngp's."""
CONE_ANGLE = 1.0 / 256.0
"""Growth of the steps with their distance where there are several cascades: instant-ngp's, about one pixel."""
_STEPS_OF_DIAGONAL = 1024  # of the box, as in instant-ngp: its step is sqrt(3) / 1024 of a unit cube
_OTHER_SEED = 0x5BD1E995  # tells the two draws of an update apart; any odd number does


def outermost_box(aabb: torch.Tensor, cascades: int) -> torch.Tensor:
    """Return the box ``[2, 3]`` of the last of ``cascades``. Each box is twice as large as the one before, about the
    same middle; the first one is ``aabb [2, 3]``."""
    middle, half = aabb.mean(0), 0.5 * (aabb[1] - aabb[0])
    reach = half * 2 ** (cascades - 1)
    return torch.stack((middle - reach, middle + reach))


class GridSamples(NamedTuple):
    """Packed samples of ``R`` rays, the result of :meth:`OccupancyGrid.sampling`.

    The samples of a ray lie one after another, from near to far, and those of ray ``r + 1`` behind those of ray ``r``.

    Attributes:
        ray_indices: ray of each sample, int64 ``[S]``.
        t_starts: start of each sample's interval ``[S]``, in units of ``rays_d``'s length: world units for unit length.
        t_ends: end of each sample's interval ``[S]``.
        packed_info: first sample and number of samples of each ray, int32 ``[R, 2]``.
    """

    ray_indices: torch.Tensor
    t_starts: torch.Tensor
    t_ends: torch.Tensor
    packed_info: torch.Tensor

    def positions(self, rays_o: torch.Tensor, rays_d: torch.Tensor) -> torch.Tensor:
        """Return the middle of each sample's interval ``[S, 3]``, world units.

        Args:
            rays_o: the rays' origins ``[R, 3]``, world units; gradients flow to them.
            rays_d: the rays' directions ``[R, 3]``; gradients flow to them.
        """
        return sample_positions(rays_o, rays_d, self.t_starts, self.t_ends, self.ray_indices)


class OccupancyGrid(nn.Module):
    """The occupancy grid of instant-ngp (Müller et al., SIGGRAPH 2022, appendix E.2).

    Each cascade has ``resolution^3`` cells; cascade ``k`` covers the scene's box scaled by ``2^k`` about its center.
    Cell ``(x, y, z)`` of cascade ``k`` has the index ``x + resolution (y + resolution (z + resolution k))``.

    A new grid is fully occupied. A cell stays occupied until an update has looked at it once: its density is infinite.

    Attributes:
        aabb: the box of the finest cascade ``[2, 3]``, world units.
        density: remembered density of each cell ``[cascades * resolution^3]``, 1 / world unit.
        bits: one bit for each cell, 1 if it is occupied, int32 ``[cascades * resolution^3 / 32]``: bit ``i % 32`` of
            word ``i / 32`` is cell ``i``.
        allowed: bits like ``bits``; a cell that :meth:`mark` has excluded has a 0 for ever.
    """

    aabb: torch.Tensor
    density: torch.Tensor
    bits: torch.Tensor
    allowed: torch.Tensor

    def __init__(
        self,
        aabb: torch.Tensor,
        resolution: int = 128,
        cascades: int = 1,
        *,
        step_size: float | None = None,
        warmup_updates: int = WARMUP_UPDATES,
        backend: str = "auto",
    ) -> None:
        """Make a grid that is fully occupied.

        Args:
            aabb: the box of the finest cascade ``[2, 3]``, least corner first, world units.
            resolution: cells of a cascade along an axis, a multiple of 4 from 8 to 256. The default of 128 is
                instant-ngp's.
            cascades: number of cascades, 1 to 8. One is enough for a scene that lies in ``aabb``.
            step_size: length of the shortest sample, world units; the default of :meth:`sampling`, and by it of the
                threshold of :meth:`update`. None is 1/1024 of the diagonal of ``aabb``, as in instant-ngp.
            warmup_updates: number of first updates that look at all cells, see :meth:`update`.
            backend: ``"auto"``, ``"metal"``, ``"host"`` or ``"torch"``, see :mod:`nerf_metal.ops`.

        Raises:
            ValueError: if a number is out of its range.
            TypeError: if an argument has the wrong type.
        """
        super().__init__()
        cells = check_grid("OccupancyGrid", resolution, cascades)
        if step_size is not None:
            check_numbers("OccupancyGrid", step_size=step_size)
            if not 0 < step_size < math.inf:
                raise ValueError(f"[OccupancyGrid] step_size must be finite and above 0, got {step_size}")
        self.resolution, self.cascades, self._step_size = resolution, cascades, step_size
        self.warmup_updates, self.backend = warmup_updates, backend
        self.register_buffer("aabb", aabb.detach().clone())
        self.register_buffer("density", torch.full((cells,), float("inf"), device=aabb.device))
        self.register_buffer("bits", torch.full((cells // 32,), -1, dtype=torch.int32, device=aabb.device))
        self.register_buffer("allowed", self.bits.clone())
        self._marked: bool | None = None  # known when it is first asked: weights may be loaded before

    @property
    def outer_box(self) -> torch.Tensor:
        """The box of the coarsest cascade ``[2, 3]``, world units."""
        return outermost_box(self.aabb, self.cascades)

    @property
    def step_size(self) -> float:
        """Length of the shortest sample, world units. Without one of its own it is read from the box: on a GPU the
        call waits."""
        if self._step_size is not None:
            return self._step_size
        return float(torch.linalg.vector_norm(self.aabb[1] - self.aabb[0])) / _STEPS_OF_DIAGONAL

    @torch.no_grad()
    def sampling(
        self,
        rays_o: torch.Tensor,
        rays_d: torch.Tensor,
        sigma_fn: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
        *,
        near: float = 0.0,
        far: float = 1e10,
        step_size: float | None = None,
        cone_angle: float = CONE_ANGLE,
        stratified: bool = False,
        seed: int = 0,
        early_stop_eps: float = 1e-4,
        alpha_threshold: float = 0.0,
        max_samples_per_ray: int = 1024,
    ) -> GridSamples:
        """Place samples on rays in occupied cells, and drop those that no light reaches.

        The arguments follow ``nerfacc.OccGridEstimator.sampling``. :func:`nerf_metal.ops.traverse_grid` says where the
        samples lie. The results have no gradients. The number of samples is read back: on a GPU the call waits.

        Args:
            rays_o: origins ``[R, 3]``, float32 (other float types run on the ``torch`` backend), world units.
            rays_d: directions ``[R, 3]``, unit length, so that ``t`` is a distance in world units.
            sigma_fn: called once, without gradients, as ``sigma_fn(t_starts, t_ends, ray_indices)`` with tensors
                ``[S]``; returns the densities ``[S]``, 1 / world unit. None keeps all samples.
            near: samples begin at this distance, at least 0.
            far: samples end at this distance, above ``near``. The default does not limit the rays.
            step_size: length of the shortest sample; None is the grid's own, :attr:`step_size`.
            cone_angle: growth of the samples with their distance if there are several cascades; 0 keeps all equal.
            stratified: shift the samples of each ray by a random part of a step, for training.
            seed: seed of these shifts; its low 32 bits count. Pass another one at every training step.
            early_stop_eps: samples with less transmittance than this in front of them are dropped, in [0, 1). The
                default is instant-ngp's, less than half a level of an 8-bit image.
            alpha_threshold: samples with less opacity than this are dropped, in [0, 1). A new field is thin everywhere:
                above 0 its samples may all be dropped, and it then learns nothing.
            max_samples_per_ray: a ray ends after this many samples, at most 65536. The default is instant-ngp's.

        Returns:
            The samples, with ``ray_indices`` as int64.

        Raises:
            ValueError: if a shape, a device or a number is wrong, or the backend cannot be used.
            TypeError: if a type or dtype is wrong.
        """
        op = "sampling"
        check_numbers(op, alpha_threshold=alpha_threshold)
        if not 0.0 <= alpha_threshold < 1.0:
            raise ValueError(f"[{op}] alpha_threshold must be in [0, 1), got {alpha_threshold}; 0 drops no sample")
        info, ray, t_starts, t_ends = ops.traverse_grid(
            rays_o,
            rays_d,
            self.aabb,
            self.bits,
            resolution=self.resolution,
            cascades=self.cascades,
            step_size=self.step_size if step_size is None else step_size,
            cone_angle=cone_angle,
            near=near,
            far=far,
            stratified=stratified,
            seed=seed,
            max_samples_per_ray=max_samples_per_ray,
            backend=self.backend,
        )
        if sigma_fn is None:
            return GridSamples(ray, t_starts, t_ends, info)
        sigmas = sigma_fn(t_starts, t_ends, ray)
        if sigmas.shape != t_starts.shape:
            raise ValueError(
                f"[{op}] sigma_fn must return shape {tuple(t_starts.shape)} like t_starts, got {tuple(sigmas.shape)}; "
                "reshape what it returns"
            )
        sigmas, light = sigmas.to(t_starts.dtype), rays_o.new_ones(len(rays_o))
        reached = ops.visibility_count(
            sigmas, t_starts, t_ends, info, light, early_stop_eps=early_stop_eps, backend=self.backend
        )
        rank = torch.arange(len(ray), device=ray.device) - info[:, 0].index_select(0, ray)
        seen = rank < reached.index_select(0, ray)
        if alpha_threshold > 0:
            seen &= sigmas * (t_ends - t_starts) >= -math.log1p(-alpha_threshold)
        kept = seen.nonzero()[:, 0]
        info = ops.pack_counts(count_samples(ray, seen, len(rays_o)))
        ray, t_starts, t_ends = (x.index_select(0, kept) for x in (ray, t_starts, t_ends))
        return GridSamples(ray, t_starts, t_ends, info)

    @torch.no_grad()
    def mark(self, mask: torch.Tensor) -> None:
        """Exclude cells of the finest cascade for ever, for example those outside of a visual hull.

        Args:
            mask: bool ``[resolution, resolution, resolution]`` in the order z, y, x, or flat. False excludes the cell.

        Raises:
            ValueError: if the number of cells is another.
        """
        cells = self.resolution**3
        if mask.numel() != cells:
            raise ValueError(
                f"[mark] mask must have {self.resolution}^3 cells, got shape {tuple(mask.shape)}; give one "
                "bool for each cell of the finest cascade"
            )
        mask = mask.reshape(-1).to(self.bits.device)
        self._marked = None
        self.allowed[: cells // 32].bitwise_and_(pack_bits(mask))
        self.bits.bitwise_and_(self.allowed)
        self.density[:cells].masked_fill_(~mask, 0.0)

    @torch.no_grad()
    def update(
        self,
        density_fn: Callable[[torch.Tensor], torch.Tensor],
        *,
        step: int,
        seed: int | None = None,
        threshold: float | None = None,
        num_cells: int | None = None,
        decay: float = 0.95,
    ) -> None:
        """Look at some cells, and decide again which cells are occupied. Call it every 16 training steps or so.

        In the first ``warmup_updates`` updates the cells are taken in order, and each update continues where the one
        before ended, so that all cells have been looked at when the warm-up is over. If cells are excluded, the cells
        to look at are drawn from the allowed ones instead. After the warm-up, half of the cells are drawn from all
        allowed ones, and half from the occupied ones. :func:`nerf_metal.ops.occupancy_update` remembers what was
        found, and :func:`nerf_metal.ops.occupancy_pack` decides which cells are occupied.

        Args:
            density_fn: called once, without gradients, with positions ``[M, 3]`` in world units; returns their
                densities ``[M]``, at least 0, 1 / world unit.
            step: number of updates before this one: ``training_step // 16`` for an update every 16 steps.
            seed: seed of the cells and of the places in them. None is ``step``.
            threshold: density from which a cell is occupied, 1 / world unit. None is ``0.01 / step_size``, at which the
                shortest sample has an optical thickness of 0.01, as in instant-ngp.
            num_cells: number of cells to look at. None is all in the warm-up and half of them after it, as in
                instant-ngp. In the warm-up it is at least ``1 / warmup_updates`` of all.
            decay: factor on all remembered densities, 0 to 1. The default is instant-ngp's.

        Raises:
            ValueError: if a shape, a device or a number is wrong, or the backend cannot be used.
            TypeError: if a type or dtype is wrong.
        """
        seed = step if seed is None else seed
        threshold = OPAQUE_STEP / self.step_size if threshold is None else threshold
        total = len(self.density)
        if self._marked is None:
            self._marked = bool((self.allowed != -1).any())
        if step >= self.warmup_updates:
            count = num_cells or total // 2
            anywhere = self._choose(self.allowed, 0, count - count // 2, seed)
            occupied = self._choose(self.bits, 0, count // 2, seed ^ _OTHER_SEED)
            chosen = ops.OccupancyCells(*(torch.cat(parts) for parts in zip(anywhere, occupied, strict=True)))
        else:
            count = min(max(num_cells or total, -(-total // self.warmup_updates)), total)
            if self._marked:
                chosen = self._choose(self.allowed, 0, count, seed)
            else:
                chosen = self._choose(self.bits, count, 0, seed, step * count % total)
        # Never looked at until now: anything found is more than nothing, and it must not be less than infinity.
        seen = self.density.index_select(0, chosen.cells)
        self.density.index_copy_(0, chosen.cells, seen.masked_fill(seen.isinf(), 0.0))
        values = density_fn(chosen.positions).to(self.density.dtype)
        ops.occupancy_update(self.density, chosen.cells, values, decay=decay, backend=self.backend)
        ops.occupancy_pack(self.density, threshold, out=self.bits, backend=self.backend)
        self.bits.bitwise_and_(self.allowed)

    @torch.no_grad()
    def occupied(self, positions: torch.Tensor) -> torch.Tensor:
        """Return which positions lie in an occupied cell of the finest cascade that covers them.

        Args:
            positions: ``[S, 3]``, world units.

        Returns:
            bool ``[S]``; False outside of :attr:`outer_box`.
        """
        middle, half = self.aabb.mean(0), 0.5 * (self.aabb[1] - self.aabb[0])
        place = (positions - middle) / half
        reach = place.abs().amax(-1, keepdim=True)
        cascade = torch.zeros_like(reach, dtype=torch.int32)
        for k in range(self.cascades - 1):
            cascade += reach >= 2**k
        cell = ((place / 2**cascade + 1.0) * (0.5 * self.resolution)).floor().clamp(0, self.resolution - 1).long()
        x, y, z = cell.unbind(-1)
        index = x + self.resolution * (y + self.resolution * (z + self.resolution * cascade[:, 0].long()))
        bit = (self.bits[index >> 5] >> (index & 31).to(torch.int32)) & 1
        return (bit != 0) & (reach[:, 0] <= 2 ** (self.cascades - 1))

    def _choose(
        self, bits: torch.Tensor, num_uniform: int, num_occupied: int, seed: int, first_cell: int | None = None
    ) -> ops.OccupancyCells:
        return ops.occupancy_cells(
            bits,
            self.aabb,
            num_uniform,
            num_occupied,
            resolution=self.resolution,
            cascades=self.cascades,
            seed=seed,
            first_cell=first_cell,
            backend=self.backend,
        )

    def occupied_fraction(self) -> float:
        """Return the share of all cells that are occupied. On a GPU the call waits."""
        return float(unpack_bits(self.bits).float().mean())
