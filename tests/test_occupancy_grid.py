"""The occupancy grid as training keeps it: warm-up, memory, exclusion, checkpoints."""

from __future__ import annotations

import pytest
import torch

from nerf_metal import ops
from nerf_metal.occupancy_grid import OccupancyGrid
from nerf_metal.reference import unpack_bits

BOX = torch.tensor([[-1.0, -0.5, -1.5], [1.0, 0.75, 1.25]])
SIDE = 16


def ball(positions: torch.Tensor) -> torch.Tensor:
    """Density 10 within 0.6 of the origin."""
    return 10.0 * (positions.norm(dim=-1) < 0.6).float()


def mask_of(grid: OccupancyGrid) -> torch.Tensor:
    return unpack_bits(grid.bits).view(grid.cascades, SIDE, SIDE, SIDE)


def distance_of_centres() -> torch.Tensor:
    """From the origin, of the cells in the order of the mask: z, y, x."""
    axes = [BOX[0, k] + (BOX[1, k] - BOX[0, k]) * (torch.arange(SIDE) + 0.5) / SIDE for k in (2, 1, 0)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).norm(dim=-1)


HALF_DIAGONAL = float(0.5 * ((BOX[1] - BOX[0]) / SIDE).norm())


def test_a_new_grid_is_occupied() -> None:
    grid = OccupancyGrid(BOX, SIDE, 2)
    assert grid.occupied_fraction() == 1.0
    assert set(grid.state_dict()) == {"aabb", "density", "bits", "allowed"}
    assert not list(grid.parameters())


@pytest.mark.parametrize("backend", ["host", "torch"])
@pytest.mark.parametrize("num_cells", [None, 100, 1500])
def test_the_grid_learns_where_the_ball_is(num_cells: int | None, backend: str) -> None:
    grid = OccupancyGrid(BOX, SIDE, backend=backend)
    for step in range(60):
        grid.update(ball, step=step, seed=step, threshold=1.0, num_cells=num_cells)
    inside = distance_of_centres()
    mask = mask_of(grid)[0]
    assert mask[inside < 0.6 - HALF_DIAGONAL].float().mean() > (0.99 if num_cells is None else 0.5)
    assert not mask[inside > 0.6 + HALF_DIAGONAL].any()


@pytest.mark.parametrize("num_cells", [None, 1, 1000])
def test_warm_up_looks_at_every_cell_and_forgets_none_before(num_cells: int | None) -> None:
    grid = OccupancyGrid(BOX, SIDE, 2, warmup_updates=5)
    seen = torch.zeros(2 * SIDE**3, dtype=torch.bool)
    calls = []

    def nothing(positions: torch.Tensor) -> torch.Tensor:
        calls.append(len(positions))
        assert not torch.is_grad_enabled()
        return torch.zeros(len(positions))

    for step in range(5):
        grid.update(nothing, step=step, seed=step, threshold=1.0, num_cells=num_cells)
        looked = max(num_cells or 2 * SIDE**3, -(-2 * SIDE**3 // 5))
        seen[(torch.arange(looked) + step * looked) % len(seen)] = True
        assert torch.equal(unpack_bits(grid.bits), ~seen)
    assert calls == [looked] * 5 and grid.occupied_fraction() == 0.0


def test_after_warm_up_a_half_of_the_cells_are_occupied_ones() -> None:
    grid = OccupancyGrid(BOX, SIDE, warmup_updates=1)
    found: list[torch.Tensor] = []

    def remember(positions: torch.Tensor) -> torch.Tensor:
        found.append(positions)
        return ball(positions)

    grid.update(remember, step=0, seed=0, threshold=1.0)
    grid.update(remember, step=1, seed=1, threshold=1.0)
    grid.update(remember, step=2, seed=2, threshold=1.0, num_cells=1001)
    assert [len(positions) for positions in found] == [SIDE**3, SIDE**3 // 2, 1001]
    near = (found[2].norm(dim=-1) < 0.6 + 2 * HALF_DIAGONAL).float()
    assert near[:501].mean() < 0.35 and near[501:].mean() > 0.7


def test_what_is_gone_is_remembered_a_while() -> None:
    grid = OccupancyGrid(BOX, SIDE, warmup_updates=1)
    grid.update(lambda x: 10.0 * (x[:, 2] < -0.7), step=0, seed=0, threshold=1.0)
    assert mask_of(grid)[0, :4].all()  # z is the slowest axis: planes below -0.7
    for step in range(1, 47):
        grid.update(lambda x: 10.0 * (x[:, 2] > 0.6), step=step, seed=step, threshold=1.0)
        assert mask_of(grid)[0, :4].all() == (step < 45)  # 10 * 0.95^45 < 1
    assert not mask_of(grid)[0, :4].any() and mask_of(grid)[0, -3:].float().mean() > 0.99


def test_excluded_cells_stay_so_for_ever() -> None:
    grid = OccupancyGrid(BOX, SIDE, 2, warmup_updates=3)
    mask = torch.zeros(SIDE, SIDE, SIDE, dtype=torch.bool)
    mask[:, 3:9, ::2] = True  # z, y, x
    grid.mark(mask)
    assert torch.equal(mask_of(grid)[0], mask) and mask_of(grid)[1].all()
    assert not grid.density[: SIDE**3].view(mask.shape)[~mask].any()
    for step in range(6):
        grid.update(lambda x: torch.ones(len(x)), step=step, seed=step, threshold=0.5)
        assert torch.equal(mask_of(grid)[0], mask) and mask_of(grid)[1].all()
    half = torch.arange(SIDE**3) % 3 == 0
    grid.mark(half)  # flat
    assert torch.equal(mask_of(grid)[0], mask & half.view(mask.shape))
    with pytest.raises(ValueError, match=r"^\[mark\] mask must have 16\^3 cells, got shape \(5,\)$"):
        grid.mark(torch.ones(5, dtype=torch.bool))


def test_a_checkpoint_carries_everything() -> None:
    one = OccupancyGrid(BOX, SIDE)
    one.mark(torch.rand(SIDE**3) < 0.5)
    for step in range(20):
        one.update(ball, step=step, seed=step, threshold=1.0)
    other = OccupancyGrid(torch.zeros(2, 3), SIDE)
    other.load_state_dict(one.state_dict())
    for grid in (one, other):
        grid.update(ball, step=20, seed=20, threshold=1.0)
    assert all(torch.equal(a, b) for a, b in zip(one.buffers(), other.buffers(), strict=True))


def test_the_grids_bits_are_what_rays_are_marched_through() -> None:
    grid = OccupancyGrid(BOX, SIDE)
    for step in range(20):
        grid.update(ball, step=step, seed=step, threshold=1.0)
    o, d = torch.tensor([[-3.0, 0.02, 0.01]]), torch.tensor([[1.0, 0.0, 0.0]])
    got = ops.traverse_grid(o, d, grid.aabb, grid.bits, resolution=SIDE, step_size=0.01)
    assert 2.4 - 0.126 <= got.t_starts[0] <= 2.4 and 3.6 - 0.01 <= got.t_ends[-1] <= 3.6 + 0.126  # a cell is 0.125 wide
