"""Camera conventions against rays worked by hand."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from nerf_metal.data.cameras import Intrinsics, Lenses, check_c2w, image_rays, look_at, pixel_rays, project
from nerf_metal.util.errors import InputError

# Right angle of view over 4 pixels: the focal length is 2 pixels.
RIGHT_ANGLE = Intrinsics.from_fov_x(math.pi / 2, 4, 2)
# Right is +y, up is +z, back is +x: a camera on the x axis that looks at the origin.
ON_X = torch.tensor([[0.0, 0, 1, 5], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])

# A portrait photograph of a phone, at a tenth of its size.
PHONE = Intrinsics(
    *(137.5, 137.4, 55.45, 96.5, 108, 192),
    **{"k1": 0.0578421, "k2": -0.0805099, "p1": -0.000980296, "p2": 0.00015575},
)
TILTED = look_at((1.0, 2.0, 3.0), (0.5, -1.0, 0.25), (0.0, 0.0, 1.0))


def test_intrinsics_from_fov() -> None:
    assert pytest.approx(2.0) == RIGHT_ANGLE.fl_x == RIGHT_ANGLE.fl_y
    assert (RIGHT_ANGLE.cx, RIGHT_ANGLE.cy, RIGHT_ANGLE.width, RIGHT_ANGLE.height) == (2.0, 1.0, 4, 2)
    # The figure of the Lego scene in the notes: 0.5 * 800 / tan(0.6911112070083618 / 2).
    assert Intrinsics.from_fov_x(0.6911112070083618, 800, 800).fl_x == pytest.approx(1111.1110, abs=1e-3)


def test_scaled_keeps_the_angle_of_view() -> None:
    half = Intrinsics(10.0, 12.0, 4.0, 3.0, 9, 6).scaled(0.5)  # 4.5 rounds to 4: not exactly a half along x
    assert (half.width, half.height) == (4, 3)
    assert half.fl_x / half.width == pytest.approx(10.0 / 9)
    assert half.cx / half.width == pytest.approx(4.0 / 9)
    assert (half.fl_y, half.cy) == (6.0, 1.5)


def test_centre_pixel_of_an_odd_image_looks_along_minus_z() -> None:
    camera = Intrinsics.from_fov_x(1.0, 5, 3)
    o, d = pixel_rays(torch.eye(4), camera, torch.tensor([2, 1]))
    assert d.tolist() == [0.0, 0.0, -1.0]
    assert o.tolist() == [0.0, 0.0, 0.0]
    o, d = pixel_rays(ON_X, camera, torch.tensor([2, 1]))
    assert d.tolist() == [-1.0, 0.0, 0.0]
    assert o.tolist() == [5.0, 0.0, 0.0]


def test_corner_rays_by_hand() -> None:
    # Pixel (0, 0): centre (0.5, 0.5), so x = (0.5 - 2) / 2 = -0.75, y = -(0.5 - 1) / 2 = 0.25, z = -1.
    _, d = pixel_rays(torch.eye(4), RIGHT_ANGLE, torch.tensor([[0, 0], [3, 1]]))
    expected = torch.tensor([[-0.75, 0.25, -1.0], [0.75, -0.25, -1.0]]) / math.sqrt(1.625)
    torch.testing.assert_close(d, expected)
    # The same in the world of the camera on the x axis: right is y, up is z, forward is -x.
    _, d = pixel_rays(ON_X, RIGHT_ANGLE, torch.tensor([0, 0]))
    torch.testing.assert_close(d, torch.tensor([-1.0, -0.75, 0.25]) / math.sqrt(1.625))


def test_each_axis_has_its_own_focal_length_and_centre() -> None:
    # Pixel (1, 2): x = (1.5 - 0.5) / 4 = 0.25, y = -(2.5 - 3.5) / 2 = 0.5.
    _, d = pixel_rays(torch.eye(4), Intrinsics(4.0, 2.0, 0.5, 3.5, 8, 8), torch.tensor([1, 2]))
    torch.testing.assert_close(d, torch.tensor([0.25, 0.5, -1.0]) / math.sqrt(1.3125))


def test_float_pixels_count_pixels_too() -> None:
    whole = pixel_rays(ON_X, RIGHT_ANGLE, torch.tensor([[1, 1]]))[1]
    assert torch.equal(whole, pixel_rays(ON_X, RIGHT_ANGLE, torch.tensor([[1.0, 1.0]]))[1])
    # (-0.5, -0.5) is the image's corner: x = -1, y = 0.5, z = -1.
    corner = pixel_rays(torch.eye(4), RIGHT_ANGLE, torch.tensor([-0.5, -0.5]))[1]
    torch.testing.assert_close(corner, torch.tensor([-1.0, 0.5, -1.0]) / 1.5)


def test_batch_over_images_equals_one_at_a_time_and_has_unit_norm() -> None:
    generator = torch.Generator().manual_seed(0)
    eyes = torch.randn(7, 3, generator=generator)
    c2w = look_at(eyes, (0.0, 0.0, 0.0), (0.0, 0.0, 1.0))
    camera = Intrinsics(30.0, 25.0, 9.0, 4.0, 20, 11)
    pixels = torch.stack([torch.arange(7) * 2, torch.arange(7)], dim=-1)
    o, d = pixel_rays(c2w, camera, pixels)
    assert o.dtype == d.dtype == torch.float32
    torch.testing.assert_close(torch.linalg.vector_norm(d, dim=-1), torch.ones(7), rtol=0, atol=2e-7)
    for i in range(7):
        one_o, one_d = pixel_rays(c2w[i], camera, pixels[i])
        assert torch.equal(o[i], one_o)
        assert torch.equal(d[i], one_d)


def test_image_rays_run_row_by_row() -> None:
    o, d = image_rays(ON_X, RIGHT_ANGLE)
    assert o.shape == d.shape == (8, 3)
    assert torch.equal(d[1 * 4 + 3], pixel_rays(ON_X, RIGHT_ANGLE, torch.tensor([3, 1]))[1])


def test_look_at() -> None:
    torch.testing.assert_close(look_at((5.0, 0, 0), (0.0, 0, 0), (0.0, 0, 2.0)), ON_X)
    tilted = look_at((1.0, 2.0, 3.0), (0.5, -1.0, 0.25), (0.0, 0.0, 1.0))
    check_c2w(tilted, "here")
    toward = torch.tensor([-0.5, -3.0, -2.75])
    torch.testing.assert_close(-tilted[:3, 2], toward / toward.norm())
    assert tilted[2, 0] == 0.0  # the horizon is level
    assert tilted[2, 1] > 0.0  # and the world's up is up


def test_a_lens_is_undone_in_the_rays() -> None:
    """The pixel where the lens puts the ideal point (0.6, -0.8): with r^2 = 1 and k1 = 0.5 that is (0.9, -1.2)."""
    camera = Intrinsics(10.0, 20.0, 30.0, 40.0, 80, 80, k1=0.5)
    x, y = 30.0 + 10.0 * 0.9 - 0.5, 40.0 - 20.0 * 1.2 - 0.5
    _, d = pixel_rays(torch.eye(4), camera, torch.tensor([x, y]))
    torch.testing.assert_close(d, torch.tensor([0.6, 0.8, -1.0]) / math.sqrt(2.0))  # y is down in pixels, up in space
    pinhole = dataclasses.replace(camera, k1=0.0)
    _, d = pixel_rays(torch.eye(4), pinhole, torch.tensor([x, y]))
    torch.testing.assert_close(d, torch.tensor([0.9, 1.2, -1.0]) / math.sqrt(3.25))


def test_project_by_hand() -> None:
    """From (5, 0, 0) towards the origin, right is y and up is z: (1, 2, 1) is 4 in front, half and a quarter aside."""
    pixels, depth = project(ON_X, RIGHT_ANGLE, torch.tensor([[1.0, 2.0, 1.0], [6.0, 0.0, 0.0]]))
    assert depth.tolist() == [4.0, -1.0]
    assert pixels[0].tolist() == [2.0 + 2.0 * 0.5 - 0.5, 1.0 - 2.0 * 0.25 - 0.5]


@pytest.mark.parametrize("camera", [RIGHT_ANGLE, Intrinsics(30.0, 25.0, 9.0, 4.0, 20, 11), PHONE])
def test_project_inverts_pixel_rays(camera: Intrinsics) -> None:
    """Pixel centres, the picture's corners and points between them, at any distance; float32 has seven digits."""
    y, x = torch.meshgrid(
        torch.linspace(-0.5, camera.height - 0.5, 7), torch.linspace(-0.5, camera.width - 0.5, 9), indexing="ij"
    )
    pixels = torch.stack((x, y), -1)
    for distance in (0.3, 7.0):
        o, d = pixel_rays(TILTED, camera, pixels)
        back, depth = project(TILTED, camera, o + distance * d)
        torch.testing.assert_close(back, pixels, rtol=0, atol=2e-6 * max(camera.fl_x, camera.width))
        torch.testing.assert_close(depth, distance * -(d @ TILTED[:3, 2]))
    # Points in float64, as captures have them, stay so.
    assert project(TILTED, camera, (o + d).double())[0].dtype == torch.float64


def test_what_a_lens_cannot_see_is_not_projected_back_into_the_picture() -> None:
    """k1 = -0.3 turns back at r = 1.054: by the polynomial alone a point at r = 1.8 would be at 1.8 (1 - 0.972)."""
    camera = Intrinsics(10.0, 10.0, 5.0, 5.0, 10, 10, k1=-0.3)
    pixels, depth = project(torch.eye(4), camera, torch.tensor([[1.8, 0.0, -1.0], [1.0, 0.0, -1.0]]))
    assert depth.tolist() == [1.0, 1.0]
    assert bool(pixels[0].isnan().all())
    torch.testing.assert_close(pixels[1], torch.tensor([5.0 + 10.0 * 0.7 - 0.5, 4.5]))


@pytest.mark.parametrize("others", [(RIGHT_ANGLE,), (RIGHT_ANGLE, PHONE)], ids=["pinholes", "one distorted"])
def test_lenses_are_their_cameras_one_by_one(others: tuple[Intrinsics, ...]) -> None:
    """Rays of many images at once; whole numbers in a file make no integer tensors."""
    cameras = [*others, Intrinsics(30, 25, 9, 4, 20, 11)]
    lenses = Lenses.of(cameras)
    for made in (lenses, Lenses.of(cameras[-1:])):
        assert all(column.dtype == torch.float32 for column in made[:-1])
    assert lenses.distorted == (PHONE in cameras)
    index = torch.tensor([0, 2, 1, 2, 0]) % len(cameras)
    pixels = torch.tensor([[0, 0], [1, 1], [3, 0], [2, 1], [0, 1]])
    _, d = pixel_rays(TILTED, lenses.at(index), pixels)
    for i, which in enumerate(index.tolist()):
        one = pixel_rays(TILTED, cameras[which], pixels[i])[1]
        torch.testing.assert_close(d[i], one, rtol=0, atol=2e-7)  # numbers of a camera alone are float64


@pytest.mark.parametrize("factor", [1, 2, 3, 5])
def test_reduced_is_the_camera_of_averaged_boxes(factor: int) -> None:
    """A reduced pixel's centre is the mean of its box's centres, and looks where that looks, distortion and all."""
    small = PHONE.reduced(factor)
    assert (small.width, small.height) == (PHONE.width // factor, PHONE.height // factor)
    for corner in ((0, 0), (small.width - 1, small.height - 1)):
        box = torch.stack(torch.meshgrid(*(torch.arange(factor) + factor * at for at in corner), indexing="ij"), -1)
        centre = box.double().mean((0, 1))
        assert bool((box.max(dim=0).values.max(dim=0).values < torch.tensor([PHONE.width, PHONE.height])).all())
        got = pixel_rays(TILTED, small, torch.tensor(corner))[1]
        torch.testing.assert_close(got, pixel_rays(TILTED, PHONE, centre)[1], rtol=0, atol=1e-6)
    with pytest.raises(InputError, match=r"factor must be at most 108 for an image of 108x192, got 109; use"):
        PHONE.reduced(109)


def _with(row: int, column: int, value: float) -> list[list[float]]:
    matrix = np.eye(4)
    matrix[row, column] = value
    return matrix.tolist()


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        (np.eye(4)[:3].tolist(), r"must be 4x4, got shape \(3, 4\)"),
        ([[1, 0], [0]], "must be 4x4 numbers, got"),
        ("no", "must be 4x4 numbers, got no"),
        ([[10**400] * 4] * 4, "must be 4x4 numbers"),
        (_with(0, 3, math.nan), "must be finite, got NaN or infinity"),
        (_with(0, 3, math.inf), "must be finite, got NaN or infinity"),
        (_with(0, 0, 2.0), "must have an orthonormal rotation within 0.001, got one that is off by 3"),
        (_with(0, 1, 0.01), "must have an orthonormal rotation within 0.001, got one that is off by 0.01"),
        (_with(1, 1, -1.0), r"must have a rotation of determinant \+1, got -1 \(a reflection\)"),
        (_with(3, 0, 1.0), r"must have the last row 0 0 0 1, got \[1.0, 0.0, 0.0, 1.0\]"),
    ],
)
def test_check_c2w_says_what_is_wrong(matrix: object, words: str) -> None:
    with pytest.raises(InputError, match=r"^\[here\] camera-to-world matrix " + words + ".*; "):
        check_c2w(matrix, "here")


def test_check_c2w_takes_poses_printed_with_few_digits() -> None:
    pose = look_at((1.0, 2.0, 3.0), (0.0, 0.0, 0.0), (0.0, 0.0, 1.0))
    rounded = np.round(pose.numpy().astype(np.float64), 4)
    torch.testing.assert_close(check_c2w(rounded.tolist(), "here"), pose, rtol=0, atol=1e-4)


@pytest.mark.parametrize("angle", [0.0, math.pi, -1.0, math.nan])
def test_fov_must_be_an_angle(angle: float) -> None:
    with pytest.raises(InputError, match=r"camera_angle_x must be in \(0, pi\) radians, got .*; give"):
        Intrinsics.from_fov_x(angle, 4, 4)


def test_other_arguments_are_checked() -> None:
    with pytest.raises(InputError, match="at least 1 pixel, got 0x4"):
        Intrinsics.from_fov_x(1.0, 0, 4)
    with pytest.raises(InputError, match="factor must be positive and finite, got 0"):
        RIGHT_ANGLE.scaled(0)
    with pytest.raises(InputError, match=r"must leave at least one pixel of 4x2, got 0\.1"):
        RIGHT_ANGLE.scaled(0.1)
    for eye in ((0.0, 0.0, 0.0), (0.0, 0.0, 3.0)):  # at the target, and straight above it
        with pytest.raises(InputError, match="up must be neither zero nor parallel"):
            look_at(eye, (0.0, 0.0, 0.0), (0.0, 0.0, 1.0))


def test_messages_are_one_line() -> None:
    assert str(InputError("[a] b must be c, got d\ne\r\nf; g")) == "[a] b must be c, got d e f; g"
