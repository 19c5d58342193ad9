"""Pixels: depth is that of what is seen, and of nothing it is 0."""

from __future__ import annotations

import torch

from nerf_metal.models.pixels import LEAST_OPACITY, RenderedPixels, inside_box
from nerf_metal.ops import Composited


def composited(opacity: list[float], depth: list[float], rgb: float = 0.5) -> Composited:
    """Rays with sums as the renderers have them: the depth weighted, not divided."""
    none = torch.zeros(0)
    return Composited(torch.full((len(depth), 3), rgb), torch.tensor(depth), torch.tensor(opacity), none, none)


def test_depth_is_the_mean_distance_of_what_is_seen() -> None:
    """A half transparent surface at 3 sums to 1.5; an opaque one to 3: both are at 3."""
    pixels = RenderedPixels.of(composited([0.5, 1.0, 0.01], [1.5, 3.0, 0.03]))
    torch.testing.assert_close(pixels.depth, torch.full((3,), 3.0))
    assert pixels.opacity.tolist() == [0.5, 1.0, torch.tensor(0.01).item()]


def test_where_nothing_is_seen_the_depth_is_0() -> None:
    """Less than a level of an 8-bit picture is nothing: its depth would be rounding. NaN nowhere."""
    pixels = RenderedPixels.of(composited([0.0, LEAST_OPACITY / 2, 2 * LEAST_OPACITY], [0.0, 2.0, 0.004]))
    assert pixels.depth[:2].tolist() == [0.0, 0.0]
    assert float(pixels.depth[2]) > 1.9


def test_sums_a_rounding_beyond_their_range_are_pulled_back() -> None:
    """Weights that add up to 1 + 1e-6 make neither more opacity than all nor a colour brighter than white."""
    pixels = RenderedPixels.of(composited([1.0 + 1e-6, -1e-8], [2.0, 0.0], rgb=1.0 + 1e-6))
    assert pixels.opacity.tolist() == [1.0, 0.0]
    assert float(pixels.rgb.max()) == 1.0
    assert pixels.depth.tolist() == [2.0, 0.0]


def test_chunks_join_in_order() -> None:
    parts = [RenderedPixels.of(composited([1.0] * n, [float(n)] * n)) for n in (2, 1, 3)]
    whole = RenderedPixels.join(parts)
    assert whole.depth.tolist() == [2.0, 2.0, 1.0, 3.0, 3.0, 3.0]
    assert whole.rgb.shape == (6, 3) and whole.opacity.shape == (6,)


def test_a_box_holds_its_faces_and_nothing_beside() -> None:
    box = torch.tensor([[-1.0, -2.0, 0.0], [1.0, 2.0, 3.0]])
    positions = torch.tensor([[0.0, 0.0, 1.0], [1.0, 2.0, 3.0], [-1.0, -2.0, 0.0], [1.1, 0.0, 1.0], [0.0, 0.0, -0.1]])
    assert inside_box(positions, box).tolist() == [True, True, True, False, False]
