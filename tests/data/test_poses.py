"""Forward-facing captures: every camera counts, and the limit is an angle to the mean direction."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from nerf_metal.data.poses import forward_facing


def _fan(*degrees: float) -> np.ndarray:
    """Cameras that look along -z, turned about y by these angles."""
    poses = np.tile(np.eye(4), (len(degrees), 1, 1))
    for pose, angle in zip(poses, np.radians(degrees), strict=True):
        pose[:3, :3] = [[math.cos(angle), 0, math.sin(angle)], [0, 1, 0], [-math.sin(angle), 0, math.cos(angle)]]
    return poses


@pytest.mark.parametrize(
    ("degrees", "facing"),
    [
        ((0.0,), True),
        ((-29.0, 0.0, 29.0), True),
        ((-31.0, 0.0, 31.0), False),
        ((*[0.0] * 30, 90.0), False),  # one stray camera: one box around all frustums would be of no use
        ((0.0, 180.0), False),  # no mean direction at all
    ],
)
def test_forward_facing(degrees: tuple[float, ...], facing: bool) -> None:
    poses = _fan(*degrees)
    assert forward_facing(poses) == forward_facing(torch.from_numpy(poses).float()) == facing
