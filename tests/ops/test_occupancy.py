"""The occupancy grid's ops: worked by hand on every backend, then the reference, then the kernels against it."""

from __future__ import annotations

import pytest
import torch

from nerf_metal import kernels, ops
from nerf_metal.reference import OccupancyCells, pack_bits, unpack_bits
from nerf_metal.reference import occupancy as reference
from nerf_metal.reference.random import STREAM_OCCUPANCY, words
from nerf_metal.selftest.march import BOX
from nerf_metal.selftest.modes import METAL, Mode
from nerf_metal.selftest.occupancy import (
    OCCUPANCY_CASES,
    OccupancyCase,
    compare_occupancy,
    compare_places,
    random_bits,
    run_occupancy,
)
from nerf_metal.selftest.tolerances import CHI_SQUARE_255, EPS
from tests.ops.guards import Guarded
from tests.ops.modes import ALL_PLAIN_MODES, ON_METAL, PLAIN_KERNEL_MODES

NAN, INFINITY = float("nan"), float("inf")


def choose(mode: Mode, bits: torch.Tensor, uniform: int, occupied: int, **options: object) -> OccupancyCells:
    with mode.active() as backend:
        return ops.occupancy_cells(
            bits.to(mode.device), BOX.to(mode.device), uniform, occupied, backend=backend, **options
        )


def update(mode: Mode, density: torch.Tensor, cells: object, values: object, **options: object) -> torch.Tensor:
    """A copy of the densities after it."""
    density = density.clone()
    with mode.active() as backend:
        cells, values = torch.as_tensor(cells, dtype=torch.int32), torch.as_tensor(values, dtype=torch.float32)
        assert ops.occupancy_update(density, cells, values, backend=backend, **options) is None
    return density


# ---- by hand ----
@ALL_PLAIN_MODES
def test_cells_in_order_lie_where_their_index_says(mode: Mode) -> None:
    # resolution 8, two cascades: the last cell of the first, the first of the second (twice as large), and round.
    got = choose(mode, random_bits(8, 2, 0.5), 4, 0, resolution=8, cascades=2, first_cell=510)
    assert got.cells.tolist() == [510, 511, 512, 513]
    side = (BOX[1] - BOX[0]) / 8
    twice = BOX[0] - 4 * side
    least = torch.stack(
        (BOX[1] - side * torch.tensor([2, 1, 1]), BOX[1] - side, twice, twice + side * torch.eye(3)[0] * 2)
    )
    within = (got.positions - least) / (side * torch.tensor([[1], [1], [2], [2]]))
    assert ((within >= -EPS * 8) & (within <= 1 + EPS * 8)).all()
    around = choose(mode, random_bits(8, 2, 0.5), 1030, 0, resolution=8, cascades=2, first_cell=1022)
    assert around.cells.tolist() == [*range(1022, 1024), *range(1024), *range(4)]


@ALL_PLAIN_MODES
def test_a_cell_is_the_upper_word_of_a_random_number_times_their_number(mode: Mode) -> None:
    word = words(5, 16, 7, STREAM_OCCUPANCY, torch.device("cpu")).tolist()
    none = torch.zeros(16, dtype=torch.int32)
    got = choose(mode, none, 2, 3, resolution=8, seed=7)
    tries = [0, 0, 15, 15, 15]  # nothing is occupied: of 16 tries the last stays
    assert got.cells.tolist() == [word[i][k] * 512 >> 32 for i, k in enumerate(tries)]
    third = word[3][2] * 512 >> 32
    one = none.clone()
    one[third // 32] = 1 << third % 32 if third % 32 < 31 else -(2**31)
    assert choose(mode, one, 2, 3, resolution=8, seed=7).cells[3] == third


@ALL_PLAIN_MODES
def test_densities_fade_and_a_greater_one_is_taken(mode: Mode) -> None:
    density = torch.zeros(64)
    density[:6] = torch.tensor([8.0, 8.0, 4.0, INFINITY, 2.0, 2.0])
    got = update(mode, density, [0, 1, 6, 6, 6, 4, 5, 63], [3.0, 5.0, 1.0, 7.0, 2.0, NAN, -9.0, 1e-3], decay=0.5)
    assert got[:7].tolist() == [4.0, 5.0, 2.0, INFINITY, 1.0, 1.0, 7.0]
    assert got[7:63].eq(0).all() and got[63] == torch.tensor(1e-3)


@ALL_PLAIN_MODES
def test_nothing_new_only_fades(mode: Mode) -> None:
    assert update(mode, torch.full((32,), 4.0), [], [], decay=0.25).tolist() == [1.0] * 32
    assert update(mode, torch.full((32,), 4.0), [3], [0.0], decay=1.0).tolist() == [4.0] * 32


@ALL_PLAIN_MODES
def test_bits_are_those_above_the_threshold_or_the_mean(mode: Mode) -> None:
    density = torch.zeros(64)
    density[[0, 31, 33, 40]] = torch.tensor([2.0, 3.0, 1.0, 1.5])
    with mode.active() as backend:
        # the mean is 7.5 / 64, below the threshold
        assert ops.occupancy_pack(density, 1.0, backend=backend).tolist() == [1 - 2**31, 2 + 256]
        density *= 40.0  # the mean is above it; the threshold itself is not enough
        density[40:42] = torch.tensor([2.5, 2.625])
        assert ops.occupancy_pack(density, 2.5, backend=backend).tolist() == [1 - 2**31, 2 + 512]
        assert ops.occupancy_pack(torch.zeros(64), 1.0, backend=backend).tolist() == [0, 0]
        unknown = torch.full((64,), INFINITY)
        unknown[5:7] = torch.tensor([0.004, 0.5])  # the mean of what is known is 0.504 / 64
        assert ops.occupancy_pack(unknown, 1.0, backend=backend).tolist() == [-1 - 32, -1]


@ALL_PLAIN_MODES
def test_bits_go_into_out(mode: Mode) -> None:
    out = torch.zeros(5, dtype=torch.int32)[2:4]
    with mode.active() as backend:
        got = ops.occupancy_pack(torch.arange(64.0), 33.0, out=out, backend=backend)
    assert got is out and out.tolist() == [0, -1]  # the mean is 31.5


# ---- the reference ----
def test_bits_are_packed_and_unpacked() -> None:
    mask = torch.rand(320) < 0.5
    assert torch.equal(unpack_bits(pack_bits(mask)), mask)
    assert pack_bits(torch.arange(64) % 32 == 31).tolist() == [-(2**31)] * 2


def test_cells_are_uniform_and_so_are_their_places() -> None:
    low, high = CHI_SQUARE_255
    got = reference.occupancy_cells(random_bits(16, 1, 0.1), BOX.double(), 2**16, 0, resolution=16, seed=1)
    within = (got.positions - BOX[0]) / (BOX[1] - BOX[0]) * 16 % 1
    for share in (got.cells / 4096, *within.unbind(-1)):
        count = torch.bincount((share * 256).long(), minlength=256).double()
        assert low < float(((count - 256) ** 2 / 256).sum()) < high


def test_most_of_the_occupied_draws_are_occupied() -> None:
    for share in (0.05, 0.3):
        bits = random_bits(32, 1, share)
        got = reference.occupancy_cells(bits, BOX, 500, 4000, resolution=32, seed=3)
        hit = unpack_bits(bits)[got.cells.long()].double()
        assert abs(hit[:500].mean() - share) < 0.05
        assert abs(hit[500:].mean() - (1 - (1 - share) ** 16)) < 0.03  # 16 tries


# ---- the kernels ----
@PLAIN_KERNEL_MODES
@pytest.mark.parametrize("case", OCCUPANCY_CASES, ids=lambda case: case.name)
def test_results_are_the_references(case: OccupancyCase, mode: Mode) -> None:
    compare_occupancy(case, run_occupancy(case, mode))


@PLAIN_KERNEL_MODES
def test_cells_outside_the_grid_are_left_out(mode: Mode) -> None:
    guarded = Guarded()
    cells = torch.tensor([-1, 64, -(2**31), 2**31 - 1, 7], dtype=torch.int32)
    density = guarded.place(torch.zeros(64, dtype=torch.int32))
    buffers = guarded.place(cells), guarded.place(torch.ones(5)), density
    with mode.active() as backend:
        kernels.launch("occupancy_update_f32", buffers, {"n_cells": 5, "n_words": 2}, (5,), backend=backend)
    guarded.check()
    assert density.view(torch.float32).nonzero().flatten().tolist() == [7]


def test_cells_of_64_bits_are_cut_and_not_wrapped() -> None:
    """2^32 + 1 is no cell, and not cell 1."""
    density = torch.zeros(512)
    ops.occupancy_update(density, torch.tensor([3, 2**32 + 1]), torch.tensor([1.0, 2.0]), backend="host")
    assert density.nonzero()[:, 0].tolist() == [3]


@PLAIN_KERNEL_MODES
def test_inputs_may_be_views(mode: Mode) -> None:
    bits = random_bits(8, 1, 0.3)
    spread = torch.stack((torch.zeros_like(bits), bits), dim=-1)[:, 1]
    assert not spread.is_contiguous()
    for one, two in zip(choose(mode, bits, 9, 9, resolution=8), choose(mode, spread, 9, 9, resolution=8), strict=True):
        assert torch.equal(one, two)
    cells, values = torch.arange(20, dtype=torch.int32), torch.rand(20)
    whole = update(mode, torch.ones(70)[6:], cells[::2], values[1::2])
    assert torch.equal(whole, update(mode, torch.ones(64), cells[::2].clone(), values[1::2].clone()))


@PLAIN_KERNEL_MODES
def test_kernels_write_their_buffers_alone(mode: Mode) -> None:
    guarded = Guarded()
    bits, box = guarded.place(random_bits(8, 2, 0.3)), guarded.place(BOX)
    cells, positions = guarded.unfilled((33,), torch.int32), guarded.unfilled((33, 3))
    params = {"n_cells": 33, "n_words": 32, "n_uniform": 9, "resolution": 8, "in_order": 0, "first_cell": 0, "seed": 5}
    density, limit = guarded.place(torch.rand(1024)), guarded.place(torch.tensor([0.5]))
    packed = guarded.unfilled((32,), torch.int32)
    with mode.active() as backend:
        kernels.launch("occupancy_cells_f32", [bits, box, cells, positions], params, (40,), backend=backend)
        kernels.launch("occupancy_pack_f32", [density, limit, packed], {"n_words": 32}, (35,), backend=backend)
    guarded.check()
    want = reference.occupancy_cells(bits, BOX.double(), 9, 24, resolution=8, cascades=2, seed=5)
    assert torch.equal(cells, want.cells) and torch.equal(unpack_bits(packed), density > 0.5)
    compare_places(OccupancyCells(cells, positions), want, 8)


@pytest.mark.host_kernels
def test_more_threads_change_no_bit() -> None:
    cells = torch.randint(0, 512, (100_000,), dtype=torch.int32)
    values = torch.rand(100_000)
    before = torch.get_num_threads()
    found = []
    for threads in (1, 4):
        torch.set_num_threads(threads)
        density = torch.zeros(512)
        ops.occupancy_update(density, cells, values, backend="host")
        found.append(density)
    torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])


@ON_METAL
def test_metal_results_are_the_references() -> None:
    for case in OCCUPANCY_CASES:
        compare_occupancy(case, run_occupancy(case, METAL))
