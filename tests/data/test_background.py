"""The background setting and compositing."""

import pytest
import torch

from nerf_metal.data.background import (
    BACKGROUNDS,
    background_color,
    check_background,
    composite_over,
    evaluation_background,
)
from nerf_metal.util.errors import InputError


def test_composite_over_by_hand() -> None:
    rgba = torch.tensor([[1.0, 0.5, 0.0, 0.25], [0.3, 0.3, 0.3, 0.0], [0.1, 0.2, 0.3, 1.0]])
    over_white = composite_over(rgba, background_color("white", rgba))
    expected = torch.tensor([[1.0, 0.875, 0.75], [1.0, 1.0, 1.0], [0.1, 0.2, 0.3]])
    torch.testing.assert_close(over_white, expected)
    over_black = composite_over(rgba, background_color("black", rgba))
    torch.testing.assert_close(over_black, torch.tensor([[0.25, 0.125, 0.0], [0, 0, 0], [0.1, 0.2, 0.3]]))
    each_its_own = composite_over(rgba, torch.tensor([[0.0, 0, 0], [0.5, 0.6, 0.7], [1, 1, 1]]))
    torch.testing.assert_close(each_its_own[1], torch.tensor([0.5, 0.6, 0.7]))


def test_random_is_per_ray_in_range_and_from_the_generator() -> None:
    like = torch.zeros(500, 4, dtype=torch.float64)
    first = background_color("random", like, torch.Generator().manual_seed(3))
    assert first.shape == (500, 3)
    assert first.dtype == torch.float64
    assert first.min() >= 0.0
    assert first.max() <= 1.0
    assert len({tuple(colour) for colour in first.tolist()}) == 500
    assert torch.equal(first, background_color("random", like, torch.Generator().manual_seed(3)))
    assert not torch.equal(first, background_color("random", like, torch.Generator().manual_seed(4)))


def test_evaluation_has_a_fixed_background() -> None:
    assert [evaluation_background(name) for name in BACKGROUNDS] == ["white", "black", "white"]


def test_unknown_names_are_refused() -> None:
    words = r"^\[background\] background must be one of white, black, random, got 'grey'; "
    for call in (
        check_background,
        evaluation_background,
        lambda name: background_color(name, torch.zeros(1, 4)),
    ):
        with pytest.raises(InputError, match=words):
            call("grey")
