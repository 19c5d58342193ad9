"""Conversion between cameras of viser and of nerf_metal: by hand, as a round trip, and by their rays."""

import math

import numpy as np
import torch

from nerf_metal.data.cameras import Intrinsics, image_rays, look_at
from nerf_metal.viewer.axes import camera_of_page, fov_and_aspect, pose_for_page, pose_of_page


def test_a_camera_that_looks_down_is_the_unit_quaternion_with_y_turned():
    """The identity pose looks along -z with +y upwards. viser's looks along +z with -y upwards: half a turn about x."""
    wxyz, position = pose_for_page(torch.eye(4))
    np.testing.assert_allclose(np.abs(wxyz), (0, 1, 0, 0), atol=1e-7)
    np.testing.assert_allclose(position, 0)
    # looking along +x with z upwards: right is -y, down is -z, forward is +x
    pose = look_at((0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0))
    wxyz, _ = pose_for_page(pose)
    np.testing.assert_allclose(wxyz * np.sign(wxyz[0]), (0.5, -0.5, 0.5, -0.5), atol=1e-6)


def test_poses_come_back():
    for seed in range(20):
        eye = torch.randn(3, generator=torch.Generator().manual_seed(seed)) * 3
        pose = look_at(eye, (0.1, 0.2, 0.3), (0.0, 0.3, 1.0))
        torch.testing.assert_close(pose_of_page(*pose_for_page(pose)), pose, atol=2e-6, rtol=0)


def test_a_pages_rays_end_at_its_edges():
    """With a vertical field of view of 90 degrees and twice the width, the edges lie at 45 degrees and at atan 2 for
    any picture size."""
    for width, height in ((64, 32), (10, 40)):
        camera = camera_of_page(math.pi / 2, 2.0, width, height)
        _, rays = image_rays(torch.eye(4), camera)
        x, y = (rays[:, axis] / -rays[:, 2] for axis in (0, 1))
        torch.testing.assert_close(x.max() * width / (width - 1), torch.tensor(2.0))
        torch.testing.assert_close(y.max() * height / (height - 1), torch.tensor(1.0))
        assert y[0] > 0 > y[-1]  # the first row is above


def test_a_cameras_frustum():
    """A camera with 30 x 40 pixels that are twice as wide as high."""
    fov, aspect = fov_and_aspect(Intrinsics(10.0, 20.0, 15.0, 20.0, 30, 40))
    assert math.isclose(fov, math.pi / 2)
    assert math.isclose(aspect, 1.5)
    camera = camera_of_page(fov, aspect, 30, 40)
    assert math.isclose(camera.fl_x, 10.0) and math.isclose(camera.fl_y, 20.0)
