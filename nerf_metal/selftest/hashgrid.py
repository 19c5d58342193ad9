"""Named inputs of the hash encoding, and its results against the reference; tolerances are made of its terms."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from nerf_metal import kernels, ops
from nerf_metal.reference import hashgrid_encode, hashgrid_levels
from nerf_metal.selftest.modes import Mode
from nerf_metal.selftest.tolerances import (
    EPS,
    HASHGRID,
    HASHGRID_PER_ADDEND,
    HASHGRID_PLACE,
    HASHGRID_SLOPE,
    all_close,
    close,
    rounded_to_half,
)

SUFFIX = {torch.float32: "f32", torch.float16: "f16"}

# Either side of a border between cells: as far as rounding can carry a place, twice.
_BORDER = 2.0 * HASHGRID_PLACE


@dataclass(frozen=True)
class HashgridCase:
    """Points in a grid. ``grid`` is the arguments of ``hashgrid_levels``.

    ``places``: "random", away from the borders of cells, where gradients to positions leap and rounding decides the
    cell; "lattice", multiples of 2^-12, whose cells and fractions are exact, borders among them; "outside", around the
    box; "one", one point again and again.
    """

    name: str
    points: int
    features: int = 4
    grid: tuple[int, int, int, int] = (4, 2, 40, 9)  # 2, 5, 14, 40 cells: two dense levels, two hashed
    places: str = "random"
    dtype: torch.dtype = torch.float32

    @property
    def levels(self) -> torch.Tensor:
        """Of the grid, int32 ``[L, 4]``."""
        return hashgrid_levels(*self.grid)

    def positions(self) -> torch.Tensor:
        """``[N, 3]``, float32."""
        random = torch.Generator().manual_seed(self.points + 1)
        if self.places == "lattice":
            return torch.randint(4097, (self.points, 3), generator=random) / 4096
        count = 1 if self.places == "one" else self.points
        drawn = torch.rand((64 * count + 64, 3), generator=random)  # most are near no border
        if self.places == "outside":
            drawn = drawn * 3.0 - 1.0
        at = drawn.double().clamp(0.0, 1.0)[:, None] * self.levels[:, :1] + 0.5
        room = torch.minimum(at.frac(), 1.0 - at.frac()) - _BORDER * self.levels[:, :1]
        kept = drawn[(room > 0).all(-1).all(-1)][:count]
        if len(kept) != count:
            raise RuntimeError(f"[{self.name}] too few of the points drawn lie away from borders")
        return kept.expand(self.points, 3).contiguous()

    def build(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """``positions``, ``table``, ``levels`` and a gradient of the features."""
        random = torch.Generator().manual_seed(self.points + 2)
        levels = self.levels
        entries = int(levels[-1, 1] + levels[-1, 2])
        table = torch.randn((entries, self.features), generator=random).to(self.dtype)
        grad = torch.randn((self.points, len(levels) * self.features), generator=random)
        return self.positions(), table, levels, grad


HASHGRID_CASES = (
    *(HashgridCase(f"{n}x{f}", n, f) for n, f in ((0, 4), (1, 4), (31, 1), (32, 2), (33, 8), (70, 4))),
    # tiles of 64 on the host, threads of 2048
    *(HashgridCase(f"{n}x{f}", n, f) for n, f in ((64, 4), (65, 1), (127, 8), (128, 2), (129, 4), (2500, 2))),
    *(HashgridCase(f"lattice-{f}", 200, f, places="lattice") for f in (1, 2, 4, 8)),
    *(HashgridCase(f"half-{f}", 150, f, dtype=torch.float16) for f in (1, 2, 4, 8)),
    HashgridCase("half-lattice", 70, 2, places="lattice", dtype=torch.float16),
    HashgridCase("outside", 200, 2, places="outside"),
    HashgridCase("one-point", 1000, 2, places="one"),
    HashgridCase("dense", 300, 4, (3, 3, 12, 12)),
    HashgridCase("hashed", 300, 4, (3, 30, 300, 10)),
    HashgridCase("two-entries", 100, 2, (2, 4, 9, 1)),
    HashgridCase("one-cell", 70, 4, (1, 1, 1, 5)),
    HashgridCase("finest", 40, 2, (2, 1000, 2**20, 8)),
    HashgridCase("sixteen-levels", 40, 2, (16, 4, 128, 10)),
)


@dataclass(frozen=True)
class Corners:
    """For every point the eight vertices around it at one level.

    Attributes:
        index: ``[N, 8]`` of the table.
        along: ``[N, 8, 3]``, of each axis the factor of the weight.
    """

    index: torch.Tensor
    along: torch.Tensor

    @property
    def weight(self) -> torch.Tensor:
        """``[N, 8]``."""
        return self.along.prod(-1)

    @property
    def slope(self) -> torch.Tensor:
        """``[N, 8, 3]``: sizes of the weights' slopes along the axes, per cell."""
        return self.along[..., [1, 2, 0]] * self.along[..., [2, 0, 1]]

    @property
    def bend(self) -> torch.Tensor:
        """``[N, 8, 3]``: how much the slopes along an axis change along both others together, per cell."""
        return self.along[..., [1, 2, 0]] + self.along[..., [2, 0, 1]]


def corners(positions: torch.Tensor, level: list[int]) -> Corners:
    """The reference's corners, all at once; positions float64."""
    resolution, first, entries, hashed = level
    at = positions.nan_to_num().clamp(0.0, 1.0) * resolution + 0.5
    far = torch.arange(8)[:, None] >> torch.arange(3) & 1
    vertex = at.floor().long()[:, None] + far
    if hashed:
        word = vertex * torch.tensor([1, 2654435761, 805459861]) & 0xFFFFFFFF
        index = (word[..., 0] ^ word[..., 1] ^ word[..., 2]) % entries
    else:
        index = (vertex * torch.tensor([1, resolution + 2, (resolution + 2) ** 2])).sum(-1)
    fraction = at.frac()[:, None]
    return Corners(first + index, torch.where(far.bool(), fraction, 1.0 - fraction))


def expected_hashgrid(case: HashgridCase) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Features and gradients of the float64 reference, and how far each may be from them."""
    want, tolerance = _expected(case)
    return dict(want), dict(tolerance)


@functools.cache
def _expected(case: HashgridCase) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    positions, table, levels, grad = (x if x.dtype == torch.int32 else x.double() for x in case.build())
    positions.requires_grad_()
    table.requires_grad_()
    features = hashgrid_encode(positions, table, levels)
    loss = (features * grad).sum() + 0.0 * (positions.sum() + table.sum())
    grad_positions, grad_table = torch.autograd.grad(loss, (positions, table))
    want = {"features": features.detach(), "table": grad_table, "positions": grad_positions}
    return want, _tolerances(positions.detach(), table.detach().abs(), levels, grad.abs(), case.dtype, grad_table)


def _tolerances(
    positions: torch.Tensor,
    table: torch.Tensor,
    levels: torch.Tensor,
    grad: torch.Tensor,
    dtype: torch.dtype,
    grad_table: torch.Tensor,
) -> dict[str, torch.Tensor]:
    """Of sizes: no term of the sums cancels another."""
    width = table.shape[1]
    features = []
    addends, sums, moved = torch.zeros(len(table), 1), torch.zeros_like(table), torch.zeros_like(table)
    slopes, bends = torch.zeros_like(positions), torch.zeros_like(positions)
    for level, part in zip(levels.tolist(), grad.split(width, -1), strict=True):
        around = corners(positions, level)
        place = HASHGRID_PLACE * level[0]
        entries = table[around.index]
        moves = place * around.slope.sum(-1)
        features.append(((HASHGRID * around.weight + moves)[..., None] * entries).sum(1))
        addends.index_add_(0, around.index.flatten(), torch.ones(around.index.numel(), 1))
        for into, factor in ((sums, around.weight), (moved, moves)):
            into.index_add_(0, around.index.flatten(), (factor[..., None] * part[:, None]).flatten(0, 1))
        along = (entries * part[:, None]).sum(-1)[..., None]
        slopes += level[0] * (around.slope * along).sum(1)
        bends += level[0] * place * (around.bend * along).sum(1)
    of_table = (HASHGRID + HASHGRID_PER_ADDEND * addends) * sums + moved
    if dtype == torch.float16:
        of_table = rounded_to_half(grad_table, of_table)
    return {
        "features": torch.cat(features, -1),
        "table": of_table,
        "positions": (HASHGRID_SLOPE + 0.5 * EPS * (width + len(levels))) * slopes + bends,
    }


def run_hashgrid(case: HashgridCase, mode: Mode, **options: object) -> dict[str, torch.Tensor]:
    """Features and gradients of one call."""
    positions, table, levels, grad = (mode.place(x) for x in case.build())
    positions.requires_grad_()
    table.requires_grad_()
    with mode.active() as backend:
        features = ops.hashgrid_encode(positions, table, levels, backend=backend, **options)  # type: ignore[arg-type]
        gradients = torch.autograd.grad(features, (positions, table), grad)
    return {"features": features.detach(), "positions": gradients[0], "table": gradients[1]}


def compare_hashgrid(case: HashgridCase, got: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Worst error over tolerance of features and gradients."""
    want, tolerance = expected_hashgrid(case)
    return all_close(got, want, tolerance, case.name)


def hashgrid_params(case: HashgridCase, per_thread: int) -> dict[str, int]:
    """The argument struct; the table as ``build`` makes it."""
    levels = case.levels
    return {
        "n_points": case.points,
        "n_levels": len(levels),
        "n_features": case.features,
        "n_entries": int(levels[-1, 1] + levels[-1, 2]),
        "points_per_thread": per_thread,
    }


def launch_table_gradients(
    inputs: list[torch.Tensor],
    into: Mapping[str, torch.Tensor],
    sums: torch.Tensor,
    params: dict[str, int],
    backend: str,
) -> None:
    """The table's gradient in each of the ways of which an op takes one.

    Args:
        inputs: positions, gradient of the features, levels.
        into: ``levels``, ``atomic`` and ``fixed``, shaped like the table; added to.
        sums: int32, two words for each entry of the table, 0.
        params: of :func:`hashgrid_params`.
        backend: of the launches.
    """
    levels = len(inputs[2])
    grid = (-(-params["n_points"] // params["points_per_thread"]), levels)
    for name, buffers, size in (
        ("backward_levels", [*inputs, into["levels"]], (levels,)),
        ("backward_atomic", [*inputs, into["atomic"]], grid),
        ("backward_fixed", [*inputs, sums], grid),
        ("fixed", [sums, into["fixed"]], (into["fixed"].numel(),)),
    ):
        kernels.launch(f"hashgrid_{name}_f32", buffers, params, size, backend=backend)


def run_table_gradients(case: HashgridCase, mode: Mode) -> dict[str, torch.Tensor]:
    """The kernels of :func:`launch_table_gradients`, in threads of 64 points."""
    positions, table, levels, grad = (mode.place(x) for x in case.build())
    into = {name: torch.zeros_like(table, dtype=torch.float32) for name in ("levels", "atomic", "fixed")}
    sums = torch.zeros((*table.shape, 2), dtype=torch.int32, device=table.device)
    with mode.active() as backend:
        launch_table_gradients([positions, grad, levels], into, sums, hashgrid_params(case, 64), backend)
    return into


def compare_table_gradients(case: HashgridCase, got: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Worst error over tolerance of each way's."""
    want, tolerance = expected_hashgrid(case)
    where = f"{case.name} table's gradient"
    return {name: close(value, want["table"], name, tolerance["table"], where) for name, value in got.items()}
