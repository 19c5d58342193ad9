"""The frequency encoding: its values and their order."""

import math

import pytest
import torch

from nerf_metal.nn import FrequencyEncoding


def test_values_worked_by_hand():
    """One coordinate at 1/6: sin and cos of pi/6 and of 2 pi/6, behind the input."""
    encoded = FrequencyEncoding(2, channels=1)(torch.tensor([[1.0 / 6.0]], dtype=torch.float64))
    half, root = 0.5, math.sqrt(3) / 2
    torch.testing.assert_close(
        encoded, torch.tensor([[1 / 6, half, root, root, half]], dtype=torch.float64), rtol=0, atol=1e-6
    )


def test_coordinates_stay_apart():
    """Changing one coordinate changes its own columns and no others."""
    encoding = FrequencyEncoding(3)
    x = torch.full((1, 3), 0.2)
    moved = x.clone()
    moved[0, 1] = 0.37
    changed = (encoding(x) != encoding(moved))[0]
    assert changed.view(-1, 3).tolist() == [[False, True, False]] * 7


@pytest.mark.parametrize("bands", [0, 1, 10])
def test_width_is_what_it_says(bands):
    """The width that layers are built with is the width that comes."""
    encoding = FrequencyEncoding(bands)
    assert encoding(torch.zeros(5, 3)).shape == (5, encoding.output_width) == (5, 3 * (1 + 2 * bands))


def test_period_of_the_first_band_is_the_box():
    """-1 and 1, the ends of the box, are one period apart: the first band alone cannot tell them apart."""
    ends = FrequencyEncoding(1, channels=1)(torch.tensor([[-1.0], [1.0]]))
    torch.testing.assert_close(ends[0, 1:], ends[1, 1:], rtol=0, atol=1e-6)
