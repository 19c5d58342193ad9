"""Traversal: samples worked by hand on every backend, and what the reference must hold for any ray."""

from __future__ import annotations

import pytest
import torch

from nerf_metal import ops
from nerf_metal.reference import TraversedRays, march_rays, pack_bits, traverse_grid, unpack_bits
from nerf_metal.reference.random import STREAM_TRAVERSE, uniform
from nerf_metal.selftest.march import BOX
from nerf_metal.selftest.modes import Mode
from nerf_metal.selftest.tolerances import EPS, FLOAT64, close
from nerf_metal.selftest.traverse import TRAVERSE_CASES, TraverseCase, check_form, of_ray
from tests.ops.modes import ALL_PLAIN_MODES

# 8 cells a side, each 0.25 wide: cell (x, y, z) of the finest cascade begins at -1 + 0.25 (x, y, z).
UNIT_BOX = torch.tensor([[-1.0] * 3, [1.0] * 3])
CASES = pytest.mark.parametrize("case", TRAVERSE_CASES, ids=lambda case: case.name)


def cells_at(*cells: tuple[int, int, int, int], cascades: int = 1) -> torch.Tensor:
    """Bits with these (x, y, z, cascade) set."""
    mask = torch.zeros(cascades * 512, dtype=torch.bool)
    for x, y, z, cascade in cells:
        mask[x + 8 * (y + 8 * (z + 8 * cascade))] = True
    return pack_bits(mask)


def traverse(
    mode: Mode, o: tuple[float, ...], d: tuple[float, ...], bits: torch.Tensor, step_size: float, **options: object
) -> TraversedRays:
    with mode.active() as backend:
        return ops.traverse_grid(
            torch.tensor([o], dtype=torch.float32),
            torch.tensor([d], dtype=torch.float32),
            UNIT_BOX,
            bits,
            resolution=8,
            step_size=step_size,
            backend=backend,
            **options,
        )


# ---- by hand: numbers that are exact in float32 ----
TWO_CELLS = cells_at((2, 4, 3, 0), (5, 4, 3, 0))
FULL = pack_bits(torch.ones(512, dtype=torch.bool))
EMPTY = torch.zeros(16, dtype=torch.int32)
# name: origin, direction, bits, options, t_starts. Steps are 0.125: two in each cell along an axis.
BY_HAND: dict[str, tuple[tuple[float, ...], tuple[float, ...], torch.Tensor, dict[str, object], list[float]]] = {
    # enters at t = 2; cell 2 reaches from x = -0.5 (t = 2.5) to -0.25, cell 5 from 0.25 (t = 3.25) to 0.5
    "two-cells": ((-3, 0.1, -0.1), (1, 0, 0), TWO_CELLS, {}, [2.5, 2.625, 3.25, 3.375]),
    "against-the-axis": ((3, 0.1, -0.1), (-1, 0, 0), TWO_CELLS, {}, [2.5, 2.625, 3.25, 3.375]),
    "negative-zeros": ((-3, 0.1, -0.1), (1, -0.0, -0.0), TWO_CELLS, {}, [2.5, 2.625, 3.25, 3.375]),
    "denormal-direction": ((-3, 0.1, -0.1), (1, 1e-40, -1e-40), TWO_CELLS, {}, [2.5, 2.625, 3.25, 3.375]),
    "tiny-direction": ((-3, 0.1, -0.1), (1, 1e-35, -1e-35), TWO_CELLS, {}, [2.5, 2.625, 3.25, 3.375]),
    "beside-them": ((-3, 0.1, 0.1), (1, 0, 0), TWO_CELLS, {}, []),
    "along-a-border": ((-3, 0.0, -0.25), (1, 0, 0), TWO_CELLS, {}, [2.5, 2.625, 3.25, 3.375]),  # the upper cell's
    "along-the-box's-face": ((-3, 1.0, -1.0), (1, 0, 0), cells_at((7, 7, 0, 0)), {}, [3.75, 3.875]),
    "misses": ((-3, 1.5, 0), (1, 0, 0), FULL, {}, []),
    "box-behind": ((3, 0, 0), (1, 0, 0), FULL, {}, []),
    "no-direction": ((0, 0, 0), (0, 0, 0), FULL, {"near": 1.0, "far": 1.25}, [1.0, 1.125]),
    "no-direction-empty": ((0, 0, 0), (0, 0, 0), EMPTY, {"near": 1.0, "far": 1.25}, []),
    "empty": ((-3, 0.1, 0.1), (1, 0, 0), EMPTY, {}, []),
    "starts-inside": ((0.5, 0.1, 0.1), (1, 0, 0), FULL, {}, [0.0, 0.125, 0.25, 0.375]),
    "near": ((-3, 0.1, 0.1), (1, 0, 0), FULL, {"near": 3.75}, [3.75, 3.875]),
    "far": ((-3, 0.1, 0.1), (1, 0, 0), FULL, {"far": 2.25}, [2.0, 2.125]),
    "far-before-a-middle": ((-3, 0.1, 0.1), (1, 0, 0), FULL, {"far": 2.1875}, [2.0]),  # the middle lies on it: not kept
    "far-after-a-middle": ((-3, 0.1, 0.1), (1, 0, 0), FULL, {"far": 2.25 - 0.03125}, [2.0, 2.125]),
    "long-direction": ((-3, 0.1, -0.1), (2, 0, 0), TWO_CELLS, {}, [1.25, 1.625]),
    "two-a-ray": ((-3, 0.1, -0.1), (1, 0, 0), TWO_CELLS, {"max_samples_per_ray": 2}, [2.5, 2.625]),
    "three-a-ray": ((-3, 0.1, -0.1), (1, 0, 0), TWO_CELLS, {"max_samples_per_ray": 3}, [2.5, 2.625, 3.25]),
}


@ALL_PLAIN_MODES
@pytest.mark.parametrize("name", BY_HAND)
def test_samples_lie_in_occupied_cells(name: str, mode: Mode) -> None:
    o, d, bits, options, starts = BY_HAND[name]
    mask = unpack_bits(bits).view(8, 8, 8)
    for turn in range(3):  # the same ray along each axis: a mistake may sit in one of them
        order = [(axis + turn) % 3 for axis in range(3)]
        # axes of the mask are z, y, x: axis a of the ray has become axis order.index(a)
        axes = [2 - order[2 - position] for position in range(3)]
        turned = pack_bits(mask.permute(axes).flatten())
        got = traverse(mode, tuple(o[a] for a in order), tuple(d[a] for a in order), turned, 0.125, **options)
        assert got.t_starts.tolist() == starts
        assert got.t_ends.tolist() == [t + 0.125 for t in starts]
        assert got.packed_info.tolist() == [[0, len(starts)]] and got.ray_indices.tolist() == [0] * len(starts)


@ALL_PLAIN_MODES
def test_outside_the_box_the_next_cascade_counts(mode: Mode) -> None:
    # Cells of the second cascade are 0.5 wide from -2 on; its inner half is the first cascade's affair.
    coarse = cells_at((0, 4, 3, 1), (3, 4, 3, 1), (7, 4, 3, 1), cascades=2)
    got = traverse(mode, (-3, 0.1, -0.1), (1, 0, 0), coarse, 0.125, cascades=2)
    assert got.t_starts.tolist() == [1.0, 1.125, 1.25, 1.375, 4.5, 4.625, 4.75, 4.875]
    fine = cells_at((0, 4, 3, 0), cascades=2)
    assert traverse(mode, (-3, 0.1, -0.1), (1, 0, 0), fine, 0.125, cascades=2).t_starts.tolist() == [2.0, 2.125]


@ALL_PLAIN_MODES
def test_cells_are_larger_than_the_step(mode: Mode) -> None:
    # A step as long as a cell, 0.25, asks the second cascade inside the box too: its cells 3 and 4 there.
    bits = cells_at(*((x, 4, 3, 0) for x in range(8)), (3, 4, 3, 1), cascades=2)
    got = traverse(mode, (-3, 0.1, -0.1), (1, 0, 0), bits, 0.25, cascades=2)
    assert got.t_starts.tolist() == [2.5, 2.75]
    got = traverse(mode, (-3, 0.1, -0.1), (1, 0, 0), bits, 0.1875, cascades=2)
    assert len(got.t_starts) == 11  # 2 / 0.1875, those with their middle in the box


@ALL_PLAIN_MODES
def test_steps_grow_with_t_between_their_limits(mode: Mode) -> None:
    # dt = t / 16 from 0.125 to 0.25: even up to t = 2, even again from 4 on.
    got = traverse(
        mode, (-3, 0.1, -0.1), (1, 0, 0), pack_bits(torch.ones(1024) > 0), 0.125, cascades=2, cone_angle=1 / 16
    )
    t, starts = 1.0, []
    while t + 0.5 * min(max(t / 16, 0.125), 0.25) < 5.0:
        starts.append(t)
        t += min(max(t / 16, 0.125), 0.25)
    assert starts[:9] == [1.0 + 0.125 * n for n in range(9)] and starts[9] == 2.125 and starts[10] == 2.2578125
    close(got.t_starts, torch.tensor(starts, dtype=torch.float64), "t_starts", EPS * 8 * 5)
    close(got.t_ends, torch.tensor([*starts[1:], t], dtype=torch.float64), "t_ends", EPS * 8 * 5)


@ALL_PLAIN_MODES
def test_a_step_that_outgrows_the_cells_of_an_empty_block_ends_the_skip(mode: Mode) -> None:
    # 16 cells a side, 0.125 wide: all empty, those of the second cascade full. From x = -0.9 on the steps are 0.1 up to
    # t = 0.3, then 0.3 t: that at t = 0.4 is 0.12, the next at 0.52 is 0.156 long, in the same block of four.
    half = torch.cat((torch.zeros(128, dtype=torch.int32), torch.full((128,), -1, dtype=torch.int32)))
    with mode.active() as backend:
        got = ops.traverse_grid(
            torch.tensor([[-0.9, 0.1, -0.1]]),
            torch.tensor([[1.0, 0.0, 0.0]]),
            UNIT_BOX,
            half,
            resolution=16,
            cascades=2,
            step_size=0.1,
            cone_angle=0.3,
            backend=backend,
        )
    starts = [0.52, *(0.676 + 0.2 * n for n in range(11))]  # 0.2 is the longest; the box ends at t = 2.9
    close(got.t_starts, torch.tensor(starts, dtype=torch.float64), "t_starts", EPS * 16)


@ALL_PLAIN_MODES
def test_jitter_moves_the_first_step_by_less_than_one(mode: Mode) -> None:
    u = uniform(1, 1, 11, STREAM_TRAVERSE, torch.device("cpu"))[0, 0]
    got = traverse(mode, (-3, 0.1, 0.1), (1, 0, 0), FULL, 0.125, stratified=True, seed=11)
    close(got.t_starts, 2 + 0.125 * (u + torch.arange(len(got.t_starts))), "t_starts", EPS * 8)
    assert len(got.t_starts) == (16 if u < 0.5 else 15)


@ALL_PLAIN_MODES
def test_no_rays(mode: Mode) -> None:
    with mode.active() as backend:
        for room in (None, 5):
            got = ops.traverse_grid(
                torch.zeros(0, 3), torch.zeros(0, 3), UNIT_BOX, FULL, resolution=8, step_size=0.1, max_samples=room,
                backend=backend,
            )  # fmt: skip
            assert [tuple(x.shape) for x in got] == [(0, 2), *[(room or 0,)] * 3]
            assert not any(x.any() for x in got)


@ALL_PLAIN_MODES
def test_positions_get_no_gradient(mode: Mode) -> None:
    o, d = torch.zeros(1, 3, requires_grad=True), torch.ones(1, 3, requires_grad=True)
    with mode.active() as backend:
        got = ops.traverse_grid(o, d, UNIT_BOX, FULL, resolution=8, step_size=0.1, backend=backend)
    assert len(got.t_starts) and not any(x.requires_grad for x in got)


# ---- the reference ----
@CASES
def test_reference_samples_are_in_order_and_in_occupied_cells(case: TraverseCase) -> None:
    got = case.expected()
    check_form(got, case.rays)
    assert (got.packed_info[:, 1] <= case.max_samples_per_ray).all()
    if case.cascades > 1:
        return
    o, d = (x.double()[got.ray_indices.long()] for x in case.rays_o_d())
    place = (o + (0.5 * (got.t_starts + got.t_ends))[:, None] * d - BOX[0]) / (BOX[1] - BOX[0])
    assert ((place >= -FLOAT64) & (place <= 1 + FLOAT64)).all()
    # the grid as an image of nearest pixels: torch's own way to look a place up
    image = unpack_bits(case.bits()).view(1, 1, *[case.resolution] * 3).double()
    grid = (2 * place - 1).view(1, 1, 1, -1, 3)
    seen = torch.nn.functional.grid_sample(image, grid, mode="nearest", padding_mode="border", align_corners=False)
    assert seen.numel() == 0 or seen.mean() > 0.999  # a middle on a border may be seen on its other side


@CASES
def test_reference_steps_of_a_full_grid_are_the_whole_ray(case: TraverseCase) -> None:
    full = torch.full_like(case.bits(), -1)
    o, d = (x.double() for x in case.rays_o_d())
    options = case.options | {"max_samples_per_ray": 10**6}
    got = traverse_grid(o, d, BOX.double(), full, **options)
    centre, half = BOX.double().mean(0), 0.5 * (BOX[1] - BOX[0]).double() * 2 ** (case.cascades - 1)
    way = march_rays(o, d, torch.stack((centre - half, centre + half)), 1, near=case.near, far=case.far)
    largest = case.step_size * 2 ** (case.cascades - 1)
    for ray in range(case.rays):
        starts, ends = of_ray(got, ray)
        if not len(starts):
            assert way.t_max[ray] - way.t_min[ray] < 1.5 * largest  # jitter and the first middle
            continue
        assert (ends[:-1] - starts[1:]).abs().max() < 1e-9 if len(starts) > 1 else True
        assert way.t_min[ray] - 1e-9 <= starts[0] < way.t_min[ray] + (largest if case.stratified else 1e-9)
        assert 0.5 * (starts[-1] + ends[-1]) < way.t_max[ray] <= ends[-1] + 0.5 * largest + 1e-9
        dt = (starts * case.cone_angle).clamp(case.step_size, largest)
        assert (ends - starts - dt).abs().max() < 1e-9


@CASES
def test_reference_samples_of_two_halves_are_the_wholes(case: TraverseCase) -> None:
    bits = case.bits()
    some = torch.arange(len(bits), dtype=torch.int32) * 0x2545F491 ^ 0x55555555
    o, d = (x.double() for x in case.rays_o_d())
    options = case.options | {"max_samples_per_ray": 10**6}
    found = [traverse_grid(o, d, BOX.double(), words, **options) for words in (bits, bits & some, bits & ~some)]
    for ray in range(case.rays):
        whole, one, two = (of_ray(each, ray)[0].tolist() for each in found)
        assert sorted(one + two) == whole
