"""Hash encoding: levels and features worked by hand on every backend, and what the reference must hold."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from nerf_metal import ops
from nerf_metal.reference import hashgrid_encode, hashgrid_levels
from nerf_metal.selftest.hashgrid import HASHGRID_CASES, HashgridCase, corners
from nerf_metal.selftest.modes import Mode
from nerf_metal.selftest.tolerances import EPS, FLOAT64, close
from tests.ops.modes import ALL_PLAIN_MODES
from tests.refusals import refusal

CASES = pytest.mark.parametrize("case", HASHGRID_CASES, ids=lambda case: case.name)


def encode(mode: Mode, positions: torch.Tensor, table: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    with mode.active() as backend:
        return ops.hashgrid_encode(positions, table, levels, backend=backend)


# ---- levels ----
def test_levels_by_hand() -> None:
    # Resolutions grow by 2; vertices 4^3, 6^3 and 10^3, of which 256 entries do not hold the last. 64 is whole lines
    # of 16 entries, 216 ends 8 short of one.
    levels = ops.hashgrid_levels(3, 2, 8, 8)
    assert levels.dtype == torch.int32 and levels.device.type == "cpu"
    assert levels.tolist() == [[2, 0, 64, 0], [4, 64, 216, 0], [8, 288, 256, 1]]


def test_a_level_that_just_fits_is_not_hashed() -> None:
    assert ops.hashgrid_levels(1, 2, 2, 6).tolist() == [[2, 0, 64, 0]]
    assert ops.hashgrid_levels(1, 2, 2, 5).tolist() == [[2, 0, 32, 1]]


def test_one_level_is_the_base() -> None:
    assert ops.hashgrid_levels(1, 5, 900, 10).tolist() == [[5, 0, 343, 0]]


@pytest.mark.parametrize("finest", [512, 2048, 4096, 2**20])
@pytest.mark.parametrize("count", [2, 7, 8, 12, 16, 64])
def test_levels_grow_by_one_factor_to_the_finest(count: int, finest: int) -> None:
    levels = hashgrid_levels(count, 16, finest, 19)
    resolution, first, entries, hashed = levels.double().unbind(-1)
    assert (resolution[0], resolution[-1]) == (16, finest)
    factor = (finest / 16) ** (1 / (count - 1))
    exact = 16 * factor ** torch.arange(count, dtype=torch.float64)
    assert ((resolution <= exact * (1 + 1e-9)) & (resolution > exact * (1 - 1e-9) - 1)).all()
    assert torch.equal(hashed == 1, (resolution + 2) ** 3 > 2**19)
    assert (first % 16 == 0).all() and (first[1:] - first[:-1] >= entries[:-1]).all()


# ---- features by hand ----
@ALL_PLAIN_MODES
def test_entries_equal_to_their_vertex_interpolate_to_the_place(mode: Mode) -> None:
    # Four cells, vertices 0 to 5: the place is 4 x + 1/2, exact for these positions.
    levels = ops.hashgrid_levels(1, 4, 4, 12)
    k, j, i = torch.meshgrid(*[torch.arange(6.0)] * 3, indexing="ij")
    table = torch.stack((i, j, k, torch.ones_like(i)), -1).reshape(-1, 4)
    positions = torch.tensor([[0.0, 0.0, 0.0], [0.5, 0.25, 1.0], [0.3125, 0.6875, 0.875], [1.0, 1.0, 1.0]])
    want = torch.tensor([[0.5, 0.5, 0.5, 1.0], [2.5, 1.5, 4.5, 1.0], [1.75, 3.25, 4.0, 1.0], [4.5, 4.5, 4.5, 1.0]])
    close(encode(mode, positions, table, levels), want, "features", EPS * 4)


@ALL_PLAIN_MODES
def test_entry_of_a_hashed_vertex(mode: Mode) -> None:
    # 16 cells: 2.5/16, 4.5/16, 6.5/16 are vertex (3, 5, 7). 5 * 2654435761 = 387276917 and 7 * 805459861 = 1343251731
    # modulo 2^32; 3 xor 387276917 xor 1343251731 = 1191511397, modulo 256 it is 101.
    levels = ops.hashgrid_levels(2, 2, 16, 8)
    assert levels.tolist() == [[2, 0, 64, 0], [16, 64, 256, 1]]
    table = torch.randn((320, 2), generator=torch.Generator().manual_seed(0))
    features = encode(mode, torch.tensor([[2.5, 4.5, 6.5]]) / 16, table, levels)
    assert torch.equal(features[:, 2:], table[64 + 101 :][:1])


@ALL_PLAIN_MODES
def test_weights_of_the_eight_corners(mode: Mode) -> None:
    # One cell, 27 vertices, the place (1, 1, 1) + (1/2, 1/4, 1/8).
    levels = ops.hashgrid_levels(1, 1, 1, 5)
    positions = torch.tensor([[1.0, 0.75, 0.625]])
    for corner in range(8):
        i, j, k = (1 + (corner >> axis & 1) for axis in range(3))
        table = torch.zeros(27, 1)
        table[i + 3 * j + 9 * k] = 64.0
        want = 64.0 * 0.5 * (0.25 if j == 2 else 0.75) * (0.125 if k == 2 else 0.875)
        assert encode(mode, positions, table, levels).item() == want


@ALL_PLAIN_MODES
def test_positions_outside_count_as_the_border(mode: Mode) -> None:
    _, table, levels, _ = HashgridCase("", 1).build()
    nan, inf = float("nan"), float("inf")
    outside = torch.tensor([[-0.1, 0.5, 0.5], [0.3, 7.0, -1e30], [inf, -inf, 0.2], [nan, 0.7, nan], [-0.0, 1.0, 0.0]])
    border = torch.tensor([[0.0, 0.5, 0.5], [0.3, 1.0, 0.0], [1.0, 0.0, 0.2], [0.0, 0.7, 0.0], [0.0, 1.0, 0.0]])
    outside.requires_grad_()
    features = encode(mode, outside, table, levels)
    assert torch.equal(features, encode(mode, border, table, levels))
    (grad,) = torch.autograd.grad(features.square().sum(), outside)
    inside = (outside >= 0) & (outside <= 1)
    assert (grad[inside] != 0).all() and (grad[~inside] == 0).all()


@ALL_PLAIN_MODES
def test_no_points_and_no_levels(mode: Mode) -> None:
    positions, table, levels, _ = HashgridCase("", 3, 2).build()
    assert encode(mode, positions[:0], table, levels).shape == (0, 8)
    assert encode(mode, positions, table, levels[:0]).shape == (3, 0)


# ---- the reference ----
@CASES
def test_reference_is_the_sum_over_corners(case: HashgridCase) -> None:
    positions, table, levels, _ = case.build()
    positions, table = positions.double(), table.double()
    parts = []
    for level in levels.tolist():
        around = corners(positions, level)
        assert ((around.index >= level[1]) & (around.index < level[1] + level[2])).all()
        assert (around.weight >= 0).all()
        close(around.weight.sum(-1), torch.ones(case.points), "weights", FLOAT64)
        parts.append((around.weight[..., None] * table[around.index]).sum(1))
    close(hashgrid_encode(positions, table, levels), torch.cat(parts, -1), "features", FLOAT64 * 10)


@CASES
def test_reference_of_a_constant_table_is_the_constant(case: HashgridCase) -> None:
    positions, table, levels, _ = case.build()
    features = hashgrid_encode(positions.double(), torch.full_like(table.double(), 3.0), levels)
    close(features, torch.full_like(features, 3.0), "features", FLOAT64 * 10)


def test_reference_is_continuous_across_cells() -> None:
    # Borders lie at (i + 1/2) / N; 1e-9 either side of one the features differ by 1e-9 times their slope.
    _, table, levels, _ = HashgridCase("", 1).build()
    random = torch.Generator().manual_seed(3)
    for resolution in levels[:, 0].tolist():
        for axis in range(3):
            border = torch.rand((50, 3), generator=random, dtype=torch.float64)
            border[:, axis] = (torch.randint(resolution, (50,), generator=random) + 0.5) / resolution
            step = torch.zeros(3, dtype=torch.float64)
            step[axis] = 1e-9
            below = hashgrid_encode(border - step, table.double(), levels)
            above = hashgrid_encode(border + step, table.double(), levels)
            assert float((above - below).abs().max()) < 1e-9 * 40 * 20  # cells times differences of entries


def test_reference_levels_are_independent() -> None:
    positions, table, levels, _ = HashgridCase("", 50, 2).build()
    whole = hashgrid_encode(positions, table, levels)
    for level in range(len(levels)):
        alone = hashgrid_encode(positions, table, levels[level : level + 1])
        assert torch.equal(alone, whole[:, 2 * level : 2 * level + 2])


@pytest.mark.parametrize("features", [1, 2, 4, 8])
def test_reference_gradients_are_finite_differences(features: int) -> None:
    # 64 dense entries and 16 hashed, which vertices share. Steps of 1e-6 leave no cell.
    positions, table, _, _ = HashgridCase("", 5, features, (2, 2, 6, 7)).build()
    levels = torch.tensor([[2, 0, 64, 0], [6, 64, 16, 1]], dtype=torch.int32)
    table = table[:80].double().requires_grad_()
    positions = positions.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda p, t: hashgrid_encode(p, t, levels), [positions, table])


# ---- bad arguments ----
GOOD = {"positions": torch.zeros(5, 3), "table": torch.zeros(64, 2), "levels": ops.hashgrid_levels(1, 2, 2, 6)}
META = torch.device("meta")
LEVELS = {"num_levels": 2, "base_resolution": 2, "finest_resolution": 4, "log2_table_size": 6}


@pytest.mark.parametrize(
    ("op", "change", "error", "name", "value"),
    [
        (ops.hashgrid_encode, *rest)
        for rest in (
            ({"positions": [0.0] * 3}, TypeError, "positions", "list"),
            ({"positions": torch.zeros(3)}, ValueError, "positions", "(3,)"),
            ({"positions": torch.zeros(5, 2)}, ValueError, "positions", "(5, 2)"),
            (
                {"table": torch.zeros(64, 3)},
                ValueError,
                "table",
                "(64, 3)",
            ),
            (
                {"table": torch.zeros(64, 2, dtype=torch.int32)},
                TypeError,
                "table",
                "torch.int32",
            ),
            (
                {"levels": GOOD["levels"].long()},
                TypeError,
                "levels",
                "torch.int64",
            ),
            ({"levels": None}, TypeError, "levels", "NoneType"),
            (
                {"levels": GOOD["levels"][0]},
                ValueError,
                "levels",
                "(4,)",
            ),
            ({"levels": GOOD["levels"].to(META)}, ValueError, "levels", "meta"),
            ({"table": torch.zeros(64, 2, device=META)}, ValueError, "table", "meta"),
            ({"known": torch.zeros(5, 3)}, ValueError, "known", "(5, 3)"),
            (
                {"grad_table": torch.zeros(64, 1)},
                ValueError,
                "grad_table",
                "(64, 1)",
            ),
            (
                {"grad_table": torch.zeros(64, 2).half()},
                TypeError,
                "grad_table",
                "torch.float16",
            ),
            (
                {"grad_table": torch.zeros(2, 64).t()},
                ValueError,
                "grad_table",
                "(1, 64)",
            ),
            (
                {"positions": torch.zeros(5, 3).half(), "backend": "host"},
                TypeError,
                "positions",
                "torch.float16",
            ),
            (
                {"table": torch.zeros(64, 2).double(), "backend": "host"},
                TypeError,
                "table",
                "torch.float64",
            ),
            ({"backend": "cuda"}, ValueError, "backend", "cuda"),
        )
    ]
    + [
        (ops.hashgrid_levels, *rest)
        for rest in (
            ({"num_levels": 0}, ValueError, "num_levels", "0"),
            ({"num_levels": 65}, ValueError, "num_levels", "65"),
            ({"num_levels": 2.0}, TypeError, "num_levels", "float"),
            ({"base_resolution": 0}, ValueError, "base_resolution", "0"),
            ({"finest_resolution": 1}, ValueError, "finest_resolution", "1"),
            ({"finest_resolution": 2**20 + 1}, ValueError, "finest_resolution", "1048577"),
            ({"log2_table_size": 0}, ValueError, "log2_table_size", "0"),
            ({"log2_table_size": 25}, ValueError, "log2_table_size", "25"),
        )
    ],
)
def test_ops_refuse_by_name_and_value(
    op: Callable[..., object], change: dict[str, object], error: type[Exception], name: str, value: str
) -> None:
    good = GOOD if op is ops.hashgrid_encode else LEVELS
    with pytest.raises(error, match=refusal(op.__name__, name, value)):
        op(**(good | change))


def test_auto_leaves_other_float_types_to_the_reference() -> None:
    assert ops.hashgrid_encode(**(GOOD | {"positions": torch.zeros(5, 3).double()})).dtype == torch.float64
