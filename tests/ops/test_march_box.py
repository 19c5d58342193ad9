"""Ray-box intersection on every backend: rays on faces, along faces, through corners, and boxes out of reach."""

from __future__ import annotations

import pytest
import torch

from nerf_metal import ops
from nerf_metal.reference import RayBounds
from nerf_metal.selftest.modes import Mode
from tests.ops.modes import ALL_PLAIN_MODES

BOX = torch.tensor([[-1.0, -2.0, -4.0], [1.0, 2.0, 4.0]])
DENORMAL = 1e-40
# name: origin, direction, near, far, then t_min and t_max, or None for a miss. All numbers are exact in float32.
RAYS: dict[str, tuple[tuple[float, ...], tuple[float, ...], float, float, tuple[float, float] | None]] = {
    "through-the-middle": ((-3, 0, 0), (1, 0, 0), 0, 1e10, (2, 4)),
    "against-the-axis": ((3, 0, 0), (-1, 0, 0), 0, 1e10, (2, 4)),
    "slanted": ((-3, -3, 0), (1, 1, 0), 0, 1e10, (2, 4)),
    "starts-inside": ((0, 0, 0), (0, 0, 1), 0, 1e10, (0, 4)),
    "starts-inside-behind-near": ((0, 0, 0), (0, 0, -1), 0.5, 1e10, (0.5, 4)),
    "starts-on-a-face-inwards": ((-1, 0, 0), (1, 0, 0), 0, 1e10, (0, 2)),
    "starts-on-a-face-outwards": ((1, 0, 0), (1, 0, 0), 0, 1e10, None),
    "along-inside": ((-3, 1.5, 3), (1, 0, 0), 0, 1e10, (2, 4)),
    "along-outside-above": ((-3, 2.5, 0), (1, 0, 0), 0, 1e10, None),
    "along-outside-below": ((-3, 0, -4.5), (1, 0, 0), 0, 1e10, None),
    "along-on-the-lower-face": ((-3, -2, 0), (1, 0, 0), 0, 1e10, (2, 4)),
    "along-on-the-upper-face": ((-3, 2, 0), (1, 0, 0), 0, 1e10, (2, 4)),
    "along-an-edge": ((-3, 2, -4), (1, 0, 0), 0, 1e10, (2, 4)),
    "negative-zero-direction": ((-3, 0, 0), (1, -0.0, -0.0), 0, 1e10, (2, 4)),
    "denormal-direction-inside": ((-3, 1, 1), (1, DENORMAL, -DENORMAL), 0, 1e10, (2, 4)),
    "denormal-direction-outside": ((-3, 2.5, 1), (1, -DENORMAL, 0), 0, 1e10, None),
    "denormal-direction-on-a-face": ((-3, 2, -4), (1, DENORMAL, -DENORMAL), 0, 1e10, (2, 4)),
    "no-direction-inside": ((0, 0, 0), (0, 0, 0), 0.5, 8, (0.5, 8)),
    "no-direction-outside": ((0, 3, 0), (0, 0, 0), 0.5, 8, None),
    "box-behind": ((3, 0, 0), (1, 0, 0), 0, 1e10, None),
    "past-the-box": ((-3, -3, 0), (1, 3, 0), 0, 1e10, None),
    "touches-a-corner": ((-3, 0, 0), (1, 1, 0), 0, 1e10, None),  # meets x = -1 and y = 2 at t = 2: no length
    "just-inside-the-corner": ((-3, -0.25, 0), (1, 1, 0), 0, 1e10, (2, 2.25)),
    "just-past-the-corner": ((-3, 0.25, 0), (1, 1, 0), 0, 1e10, None),
    "near-cuts": ((-3, 0, 0), (1, 0, 0), 3, 1e10, (3, 4)),
    "far-cuts": ((-3, 0, 0), (1, 0, 0), 0, 3, (2, 3)),
    "both-cut": ((-3, 0, 0), (1, 0, 0), 2.5, 3, (2.5, 3)),
    "near-behind-the-box": ((-3, 0, 0), (1, 0, 0), 5, 6, None),
    "near-at-the-exit": ((-3, 0, 0), (1, 0, 0), 4, 6, None),
    "far-before-the-box": ((-3, 0, 0), (1, 0, 0), 0.25, 1, None),
    "far-at-the-entry": ((-3, 0, 0), (1, 0, 0), 0.25, 2, None),
    "long-direction": ((-3, 0, 0), (4, 0, 0), 0, 1e10, (0.5, 1)),
}


@ALL_PLAIN_MODES
@pytest.mark.parametrize("name", RAYS)
def test_ray_meets_box(name: str, mode: Mode) -> None:
    origin, direction, near, far, expected = RAYS[name]
    # The same ray seen along each axis: a mistake may sit in one of them.
    turned = [[0, 1, 2], [1, 2, 0], [2, 0, 1]]
    for order in turned:
        o, d = torch.tensor([origin], dtype=torch.float32), torch.tensor([direction], dtype=torch.float32)
        with mode.active() as backend:
            got = ops.intersect_rays(o[:, order], d[:, order], BOX[:, order], near=near, far=far, backend=backend)
            edges = ops.march_rays(o[:, order], d[:, order], BOX[:, order], 2, near=near, far=far, backend=backend)
        found = (got.t_min.item(), got.t_max.item())
        assert got.hits.item() == (expected is not None)
        assert found == ((near, near) if expected is None else expected)
        assert (edges.t_min.item(), edges.t_max.item(), edges.hits.item()) == (*found, got.hits.item())
        assert edges.t_edges[0, [0, -1]].tolist() == list(found)


@ALL_PLAIN_MODES
def test_no_rays(mode: Mode) -> None:
    with mode.active() as backend:
        got = ops.intersect_rays(torch.zeros(0, 3), torch.zeros(0, 3), BOX, backend=backend)
    assert isinstance(got, RayBounds) and [tuple(x.shape) for x in got] == [(0,)] * 3
    assert got.hits.dtype == torch.bool


@ALL_PLAIN_MODES
def test_positions_get_no_gradient(mode: Mode) -> None:
    o, d = torch.zeros(1, 3, requires_grad=True), torch.ones(1, 3, requires_grad=True)
    with mode.active() as backend:
        bounds = ops.intersect_rays(o, d, BOX, backend=backend)
        samples = ops.march_rays(o, d, BOX, 3, backend=backend)
    assert not any(x.requires_grad for x in (*bounds, *samples))
