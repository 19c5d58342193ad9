"""The counter-based random numbers: the reference against integers worked out apart, and as uniform numbers."""

from __future__ import annotations

import pytest
import torch

from nerf_metal.reference.random import (
    STREAM_CELL,
    STREAM_IMPORTANCE,
    STREAM_MARCH,
    STREAM_OCCUPANCY,
    STREAM_TRAVERSE,
    uniform,
    words,
)
from nerf_metal.selftest.tolerances import CHI_SQUARE_255

CPU = torch.device("cpu")
M = 2**32
STREAMS = (STREAM_MARCH, STREAM_IMPORTANCE, STREAM_TRAVERSE, STREAM_OCCUPANCY, STREAM_CELL)


def pcg3d(x: int, y: int, z: int) -> tuple[int, int, int]:
    """Listing 16 of Jarzynski and Olano (2020), line by line in Python's integers."""
    v = [(c * 1664525 + 1013904223) % M for c in (x, y, z)]
    v[0] = (v[0] + v[1] * v[2]) % M
    v[1] = (v[1] + v[2] * v[0]) % M
    v[2] = (v[2] + v[0] * v[1]) % M
    v = [c ^ (c >> 16) for c in v]
    v[0] = (v[0] + v[1] * v[2]) % M
    v[1] = (v[1] + v[2] * v[0]) % M
    v[2] = (v[2] + v[0] * v[1]) % M
    return v[0], v[1], v[2]


def test_streams_are_named_in_letters() -> None:
    assert tuple(int.from_bytes(name, "big") for name in (b"marc", b"impo", b"trav", b"occu", b"cell")) == STREAMS


def test_first_words_of_pcg3d_do_not_change() -> None:
    # Worked out once with the listing above; a seed must give the same numbers in every release.
    golden = {(0, 0, 0): 2611992518, (1, 2, 3): 4204755366, (5, 0, 1): 83555868}
    for (x, y, z), word in golden.items():
        assert pcg3d(x, y, z)[0] == word
        assert uniform(x + 1, y + 1, z, 0, CPU)[x, y] == (word >> 8) / 2**24


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1, 2**32 + 5, -1, 123456789])
def test_uniform_is_the_top_24_bits_of_pcg3d(seed: int, stream: int) -> None:
    got = uniform(5, 7, seed, stream, CPU)
    want = [[pcg3d(i, j, (seed ^ stream) % M)[0] for j in range(7)] for i in range(5)]
    assert words(5, 7, seed, stream, CPU).tolist() == want
    assert got.tolist() == [[(word >> 8) / 2**24 for word in row] for row in want]
    assert torch.equal(got.float().double(), got)


@pytest.mark.parametrize("stream", STREAMS)
def test_numbers_are_uniform_along_rays_samples_and_pairs(stream: int) -> None:
    u = uniform(256, 256, 3, stream, CPU)
    low, high = CHI_SQUARE_255
    neighbours = [(u[:, :-1], u[:, 1:]), (u[:-1], u[1:])]  # pairs fall evenly on a 16 x 16 board
    bins = [(u * 256).long(), *((a * 16).long() * 16 + (b * 16).long() for a, b in neighbours)]
    for each in bins:
        count = torch.bincount(each.flatten(), minlength=256).double()
        mean = each.numel() / 256
        assert low < float(((count - mean) ** 2 / mean).sum()) < high


def test_seeds_and_streams_are_apart() -> None:
    drawn = [uniform(64, 64, s, stream, CPU) for s in range(4) for stream in STREAMS]
    for i, one in enumerate(drawn):
        for other in drawn[:i]:
            assert (one == other).double().mean() < 0.01
            assert abs(float(torch.corrcoef(torch.stack((one.flatten(), other.flatten())))[0, 1])) < 0.08


def test_numbers_do_not_depend_on_the_split_of_the_rays() -> None:
    assert torch.equal(uniform(9, 5, 1, STREAM_MARCH, CPU)[:4, :3], uniform(4, 3, 1, STREAM_MARCH, CPU))
    assert uniform(0, 5, 1, STREAM_MARCH, CPU).shape == (0, 5)
