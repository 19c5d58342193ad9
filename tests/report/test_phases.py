"""Phases by hand, with noise, and for any numbers."""

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerf_metal.report.phases import COLLAPSE_DB, NOISE_DB, find_phases

HEALTHY = [10, 15, 18, 20, 21.2, 22, 22.7, 23.3, 23.8, 24.2, 24.5]


def kinds(psnr):
    """Kind, first and last evaluation."""
    return [(phase.kind, phase.start, phase.end) for phase in find_phases(psnr)]


@pytest.mark.parametrize(
    ("psnr", "expected"),
    [
        ([], []),
        ([12.0], []),
        ([12.0, 14.0], [("improving", 0, 1)]),
        ([12.0, 12.1], [("plateau", 0, 1)]),
        (HEALTHY, [("improving", 0, 10)]),
        ([10, 15, 20, 24, 24.1, 24.1, 24.1, 24.2, 24.2], [("improving", 0, 3), ("plateau", 3, 8)]),
        # a collapse: from the last evaluation near the best to where falling ends
        ([20, 24, 23.8, 15, 9, 8.9], [("improving", 0, 2), ("collapse", 2, 4), ("plateau", 4, 5)]),
        ([10, 20, 8, 8.1, 8, 15, 19.2, 22], [("improving", 0, 1), ("collapse", 1, 2), ("plateau", 2, 4),
                                             ("recovered", 4, 6), ("improving", 6, 7)]),
        ([20, 10, 18.9], [("collapse", 0, 1), ("improving", 1, 2)]),  # 1.1 dB short of it
        ([20, 10, 19.0], [("collapse", 0, 1), ("recovered", 1, 2)]),
        ([20, 20 - COLLAPSE_DB], [("collapse", 0, 1)]),
        ([20, 20.01 - COLLAPSE_DB], [("plateau", 0, 1)]),
        # two falls without a way back: the second is one of its own, and what counts is the first's height
        ([20, 12, 13, 13.5, 6, 12.9, 19.5], [("collapse", 0, 1), ("improving", 1, 3), ("collapse", 3, 4),
                                             ("recovered", 4, 6)]),
    ],
)  # fmt: skip
def test_by_hand(psnr, expected):
    assert kinds(psnr) == expected


def test_a_slow_fall_is_a_collapse_too():
    """0.4 dB at a time, 4 dB in all."""
    assert kinds([20 - 0.4 * i for i in range(11)])[-1] == ("collapse", 1, 10)


def test_sizes_in_db_and_percent():
    (phase,) = find_phases([9.8, 4.33])
    assert phase.change_db == pytest.approx(-5.47) and phase.change_percent == pytest.approx(-55.8, abs=0.02)
    (phase,) = find_phases([-1.0, 4.0])
    assert phase.change_percent is None


@pytest.mark.parametrize("seed", range(20))
def test_noise_makes_no_phases(seed):
    """Wavering by 0.15 dB neither breaks an improvement nor makes a collapse."""
    chance = random.Random(seed)
    wavering = [10 + 15 * (1 - 0.8**i) + chance.gauss(0, 0.15) for i in range(12)]
    assert kinds(wavering) == [("improving", 0, 11)]
    flat = [24 + chance.gauss(0, 0.05) for _ in range(20)]
    assert kinds(flat) == [("plateau", 0, 19)]


def test_a_short_flat_belongs_to_the_improvement():
    assert kinds([10, 12, 14, 14.0, 16, 18, 20, 20.1, 22, 24, 26, 28]) == [("improving", 0, 11)]


@given(st.lists(st.floats(-20, 60), max_size=40))
def test_phases_cover_all_evaluations(psnr):
    """From the first to the last, without gap or overlap, neighbours of different kinds."""
    phases = find_phases(psnr)
    if len(psnr) < 2:
        assert phases == []
        return
    assert phases[0].start == 0 and phases[-1].end == len(psnr) - 1
    for one, other in itertools.pairwise(phases):
        assert one.end == other.start and one.kind != other.kind
    for phase in phases:
        assert phase.start < phase.end
        if phase.kind == "collapse":
            assert phase.change_db <= -(COLLAPSE_DB - NOISE_DB)
        if phase.kind == "recovered":
            assert phase.change_db > 0
