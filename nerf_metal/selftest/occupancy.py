"""Named occupancy grids: cells drawn, densities remembered and bits packed, against the references."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from nerf_metal import ops
from nerf_metal.reference import OccupancyCells, pack_bits, unpack_bits
from nerf_metal.reference import occupancy as reference
from nerf_metal.selftest.march import BOX
from nerf_metal.selftest.modes import Mode
from nerf_metal.selftest.tolerances import CELL_PLACE, DENSITY, MEAN, close, require

THRESHOLDS = (0.0, 0.1, 0.5, 2.0)  # below, around and above the mean of the densities, 0.2


def random_bits(resolution: int, cascades: int, share: float) -> torch.Tensor:
    """Bits of which a share is set, int32 ``[cascades * resolution^3 / 32]``."""
    random = torch.Generator().manual_seed(resolution + cascades)
    return pack_bits(torch.rand(cascades * resolution**3, generator=random) < share)


@dataclass(frozen=True)
class OccupancyCase:
    """A grid of which a share is occupied.

    Attributes:
        count: cells drawn, and new densities.
        occupied: how many of the cells are drawn from the occupied ones.
        first_cell: the cells are this and those that follow.
    """

    name: str
    resolution: int
    cascades: int
    share: float
    count: int
    occupied: int = 0
    first_cell: int | None = None

    @property
    def options(self) -> dict[str, int | None]:
        """Of drawing cells, by op and reference."""
        seed = self.count - 40
        return {"resolution": self.resolution, "cascades": self.cascades, "seed": seed, "first_cell": self.first_cell}

    def bits(self) -> torch.Tensor:
        """Of the occupied cells."""
        return random_bits(self.resolution, self.cascades, self.share)

    def densities(self) -> torch.Tensor:
        """One for each cell, in [0, 1], most of them small."""
        random = torch.Generator().manual_seed(1)
        return torch.rand(self.cascades * self.resolution**3, generator=random) ** 4

    def finds(self) -> tuple[torch.Tensor, torch.Tensor]:
        """``cells``, many of them more than once, and ``values``, some of them negative or NaN."""
        random = torch.Generator().manual_seed(self.count)
        cells = torch.randint(0, 96, (self.count,), generator=random, dtype=torch.int32)
        values = torch.rand(self.count, generator=random) * 2 - 0.5
        values[::7] = float("nan")
        return cells, values


OCCUPANCY_CASES = tuple(
    OccupancyCase(f"{n}^3x{cascades}-{share:g}-{kind}-{count}", n, cascades, share, count, count // 2 * half, first)
    for n, cascades in ((8, 1), (12, 3), (32, 2), (8, 8))
    for share in (0.0, 0.04, 1.0)
    for kind, half, first in (("anywhere", 0, None), ("mixed", 1, None), ("in-order", 0, 77))
    for count in (0, 1, 31, 32, 33, 1000)
)


def run_occupancy(case: OccupancyCase, mode: Mode) -> dict[str, torch.Tensor]:
    """Cells and places drawn; densities after new ones, also with these in the opposite order; bits by threshold."""
    bits, box, density, turned = (mode.place(x) for x in (case.bits(), BOX, case.densities(), case.densities()))
    cells, values = case.finds()
    finds, flipped = ([mode.place(x) for x in pair] for pair in ((cells, values), (cells.flip(0), values.flip(0))))
    with mode.active() as backend:
        drawn = ops.occupancy_cells(
            bits,
            box,
            case.count - case.occupied,
            case.occupied,
            backend=backend,
            **case.options,  # type: ignore[arg-type]
        )
        packed = {f"bits over {t:g}": ops.occupancy_pack(density, t, backend=backend) for t in THRESHOLDS}
        ops.occupancy_update(density, *finds, backend=backend)
        ops.occupancy_update(turned, *flipped, backend=backend)
    return {**drawn._asdict(), **packed, "density": density, "turned": turned}


def compare_occupancy(case: OccupancyCase, got: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Worst error over tolerance of places and densities; cells and bits are the reference's."""
    got = {name: x.cpu() for name, x in got.items()}
    want = reference.occupancy_cells(
        case.bits(),
        BOX.double(),
        case.count - case.occupied,
        case.occupied,
        **case.options,  # type: ignore[arg-type]
    )
    cells = OccupancyCells(got["cells"], got["positions"])
    require(cells.cells.dtype == torch.int64 and torch.equal(cells.cells, want.cells), f"{case.name} drew other cells")
    before = case.densities().double()
    for threshold in THRESHOLDS:
        # The mean of float32 is not the reference's: where it decides, another density may lie between.
        limit = before.mean().clamp(max=threshold)
        sure = (before - limit).abs() > MEAN * limit
        found = unpack_bits(got[f"bits over {threshold:g}"])
        require(not (found != (before > limit))[sure].any(), f"{case.name} packed other bits over {threshold:g}")
        require(sure.double().mean() > 0.99, f"{case.name} leaves bits open")
    density = before.clone()
    found_cells, values = case.finds()
    reference.occupancy_update(density, found_cells, values.double())
    require(torch.equal(got["density"], got["turned"]), f"{case.name} depends on the order of new densities")
    return {
        "positions": compare_places(cells, want, case.resolution),
        "density": close(got["density"], density, "density", DENSITY * density, case.name),
    }


def compare_places(got: OccupancyCells, want: OccupancyCells, resolution: int) -> float:
    """Worst error over tolerance, which is relative to the size of the cell's cascade."""
    size = 2.0 ** (want.cells.double() / resolution**3).floor()[:, None] * BOX.abs().amax()
    return close(got.positions, want.positions, "positions", CELL_PLACE * size)
