"""The memory of where the scene is empty, so that rays are sampled elsewhere."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from nerf_metal import ops
from nerf_metal.reference import pack_bits, unpack_bits

WARMUP_UPDATES = 16
"""Updates that look at all cells: instant-ngp's, the 256 steps of training in which it updates every 16."""
_OTHER_SEED = 0x5BD1E995  # tells the two draws of an update apart; any odd number does


def outermost_box(aabb: torch.Tensor, cascades: int) -> torch.Tensor:
    """The box ``[2, 3]`` of the last of ``cascades``, each twice as large as the one before about the same middle."""
    middle, half = aabb.mean(0), 0.5 * (aabb[1] - aabb[0])
    reach = half * 2 ** (cascades - 1)
    return torch.stack((middle - reach, middle + reach))


class OccupancyGrid(nn.Module):
    """The occupancy grid of instant-ngp (Müller et al., SIGGRAPH 2022, appendix E.2).

    Each cascade has ``resolution^3`` cells; cascade ``k`` covers the scene's box scaled by ``2^k`` about
    its centre. Cell ``(x, y, z)`` of cascade ``k`` has the index
    ``x + resolution (y + resolution (z + resolution k))``.

    A new grid is fully occupied, and a cell stays so until it has been looked at once: its density is infinite.

    Attributes:
        aabb: the box of the finest cascade ``[2, 3]``, world units.
        density: what is remembered of each cell ``[cascades * resolution^3]``.
        bits: one for each cell, int32 ``[cascades * resolution^3 / 32]``: bit ``i % 32`` of word ``i / 32``.
        allowed: the same; cells that :meth:`mark` excluded have a 0 for ever.
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
        warmup_updates: int = WARMUP_UPDATES,
        backend: str = "auto",
    ) -> None:
        """An occupied grid.

        Args:
            aabb: the box of the finest cascade ``[2, 3]``, least corner first.
            resolution: cells of a cascade along an axis, a multiple of 4 from 8 to 256; 128 as in instant-ngp.
            cascades: how many boxes there are, 1 to 8.
            warmup_updates: see :meth:`update`.
            backend: of the kernels, see :mod:`nerf_metal.ops`.
        """
        super().__init__()
        self.resolution, self.cascades = resolution, cascades
        self.warmup_updates, self.backend = warmup_updates, backend
        cells = cascades * resolution**3
        self.register_buffer("aabb", aabb.detach().clone())
        self.register_buffer("density", torch.full((cells,), float("inf"), device=aabb.device))
        self.register_buffer("bits", torch.full((cells // 32,), -1, dtype=torch.int32, device=aabb.device))
        self.register_buffer("allowed", self.bits.clone())
        self._marked: bool | None = None  # known when it is first asked: weights may be loaded before

    @property
    def outer_box(self) -> torch.Tensor:
        """The box of the coarsest cascade ``[2, 3]``."""
        return outermost_box(self.aabb, self.cascades)

    @torch.no_grad()
    def mark(self, mask: torch.Tensor) -> None:
        """Exclude cells of the finest cascade for ever, by what is known from outside: a visual hull.

        Args:
            mask: bool ``[resolution, resolution, resolution]`` in the order z, y, x, or flat: False excludes.

        Raises:
            ValueError: for another number of cells.
        """
        cells = self.resolution**3
        if mask.numel() != cells:
            raise ValueError(f"[mark] mask must have {self.resolution}^3 cells, got shape {tuple(mask.shape)}")
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
        seed: int,
        threshold: float,
        num_cells: int | None = None,
        decay: float = 0.95,
    ) -> None:
        """Look at some cells and say anew which are occupied.

        In the first ``warmup_updates`` updates the cells are taken in order, each update going on where the one before
        ended, so that all have been looked at when the warm-up is over; of a marked grid they are drawn from those
        that are allowed. After it a half of the cells are drawn from all that are allowed, the other half from the
        occupied ones. What was found fades by
        :func:`nerf_metal.ops.occupancy_update`; cells are occupied by :func:`nerf_metal.ops.occupancy_pack`.

        Args:
            density_fn: densities at least 0 ``[M]`` of positions ``[M, 3]``, world units; called once, without
                gradients.
            step: how many updates came before.
            seed: of the cells and the places in them.
            threshold: density from which a cell is occupied; instant-ngp takes that whose shortest step has an opacity
                of 0.01, ``0.01 / step_size``.
            num_cells: to look at. None: all in the warm-up, a half of them after it, as instant-ngp. In the warm-up
                at least ``1 / warmup_updates`` of all.
            decay: of what was found before; 0.95 as in instant-ngp.
        """
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
        cells = chosen.cells.long()
        seen = self.density.index_select(0, cells)
        self.density.index_copy_(0, cells, seen.masked_fill(seen.isinf(), 0.0))
        values = density_fn(chosen.positions).to(self.density.dtype)
        ops.occupancy_update(self.density, chosen.cells, values, decay=decay, backend=self.backend)
        ops.occupancy_pack(self.density, threshold, out=self.bits, backend=self.backend)
        self.bits.bitwise_and_(self.allowed)

    @torch.no_grad()
    def occupied(self, positions: torch.Tensor) -> torch.Tensor:
        """Where rays take samples: bool ``[S]`` of ``positions [S, 3]``, by the cell of the finest cascade that covers
        each; False outside of :attr:`outer_box`."""
        middle, half = self.aabb.mean(0), 0.5 * (self.aabb[1] - self.aabb[0])
        place = (positions - middle) / half
        reach = place.abs().amax(-1, keepdim=True)
        cascade = torch.zeros_like(reach, dtype=torch.int32)
        for k in range(self.cascades - 1):
            cascade += reach >= 2**k
        cell = ((place / 2**cascade + 1.0) * (0.5 * self.resolution)).floor().clamp(0, self.resolution - 1).long()
        x, y, z, cascade = (*cell.unbind(-1), cascade[:, 0].long())
        index = x + self.resolution * (y + self.resolution * (z + self.resolution * cascade))
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
        """Share of the cells that are occupied; reads back."""
        return float(unpack_bits(self.bits).float().mean())
