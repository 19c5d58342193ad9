"""Lenses: values by hand, an inverse found independently, folds, and gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from nerf_metal.data.cameras import Intrinsics
from nerf_metal.data.lenses import distort, fold_radius, undistort


def lens(**coefficients: float) -> Intrinsics:
    """A camera whose other numbers play no part."""
    return Intrinsics(1.0, 1.0, 0.0, 0.0, 1, 1, **coefficients)


FOX = lens(k1=0.0578421, k2=-0.0805099, p1=-0.000980296, p2=0.00015575)  # instant-ngp's fox, a phone held upright
WIDE = lens(k1=-0.3, k2=0.1)  # an action camera's barrel
STRONG = lens(k1=-0.3, k2=0.1, k3=-0.02, k4=0.001, p1=0.01, p2=-0.02)
CORNERS = {"fox": (FOX, 0.4, 0.7), "wide": (WIDE, 0.9, 0.6), "strong": (STRONG, 0.6, 0.5)}


def grid(half_width: float, half_height: float, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Points of a picture on the plane at distance 1, corners and the middle among them."""
    x = torch.linspace(-half_width, half_width, 21, dtype=dtype)
    y = torch.linspace(-half_height, half_height, 31, dtype=dtype)
    return torch.meshgrid(x, y, indexing="ij")  # type: ignore[return-value]


def found_by_bisection(x: float, y: float, camera: Intrinsics) -> tuple[float, float]:
    """Undo a radial distortion along the ray from the middle: no derivative, no torch."""

    def moved(r: float) -> float:
        r2 = np.float64(r) ** 2
        return float(r * (1 + camera.k1 * r2 + camera.k2 * r2**2 + camera.k3 * r2**3 + camera.k4 * r2**4))

    target, low, high = math.hypot(x, y), 0.0, 3.0
    for _ in range(100):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if moved(middle) < target else (low, middle)
    return x * low / target, y * low / target


def found_by_fixed_point(x: np.ndarray, y: np.ndarray, camera: Intrinsics) -> tuple[np.ndarray, np.ndarray]:
    """OpenCV's ``undistortPoints``: divide by the radial factor at the last guess until it stays."""
    u, v = x, y
    for _ in range(500):
        r2 = u * u + v * v
        radial = 1 + camera.k1 * r2 + camera.k2 * r2**2 + camera.k3 * r2**3 + camera.k4 * r2**4
        shift_x = 2 * camera.p1 * u * v + camera.p2 * (r2 + 2 * u * u)
        shift_y = camera.p1 * (r2 + 2 * v * v) + 2 * camera.p2 * u * v
        u, v = (x - shift_x) / radial, (y - shift_y) / radial
    return u, v


@pytest.mark.parametrize(
    ("coefficients", "expected"),
    [
        # At (0.6, -0.8) r^2 is 1, so each radial coefficient adds itself to the factor.
        ({"k1": 0.5}, (0.9, -1.2)),
        ({"k2": 0.25}, (0.75, -1.0)),
        ({"k3": -0.5}, (0.3, -0.4)),
        ({"k4": 0.1}, (0.66, -0.88)),
        ({"k1": 0.5, "k2": -0.25, "k3": 0.125, "k4": -0.375}, (0.6, -0.8)),
        # 2 p1 x y = 0.1 * -0.96; p1 (r^2 + 2 y^2) = 0.1 * 2.28
        ({"p1": 0.1}, (0.6 - 0.096, -0.8 + 0.228)),
        # p2 (r^2 + 2 x^2) = 0.1 * 1.72; 2 p2 x y = 0.1 * -0.96
        ({"p2": 0.1}, (0.6 + 0.172, -0.8 - 0.096)),
    ],
)
def test_distortion_by_hand(coefficients: dict[str, float], expected: tuple[float, float]) -> None:
    x, y = torch.tensor(0.6, dtype=torch.float64), torch.tensor(-0.8, dtype=torch.float64)
    moved = distort(x, y, lens(**coefficients))
    assert [float(z) for z in moved] == pytest.approx(expected, abs=1e-14)


def test_radial_coefficients_count_powers_of_the_radius() -> None:
    """At r = 0.5 on the axis: 0.5 (1 + k / 4^n)."""
    half, zero = torch.tensor(0.5, dtype=torch.float64), torch.tensor(0.0, dtype=torch.float64)
    for n, name in enumerate(("k1", "k2", "k3", "k4"), 1):
        x, y = distort(half, zero, lens(**{name: 1.0}))
        assert (float(x), float(y)) == (0.5 * (1 + 0.25**n), 0.0)


def test_the_corner_of_the_fox_as_opencv_has_it() -> None:
    """OpenCV 5.0's ``projectPoints`` and ``undistortPoints`` (500 iterations) of the same point, run once by hand."""
    moved = distort(torch.tensor(0.4, dtype=torch.float64), torch.tensor(0.7, dtype=torch.float64), FOX)
    assert [float(z) for z in moved] == pytest.approx((0.40103488464, 0.7009966900949999), abs=1e-12)
    back = undistort(torch.tensor(0.4, dtype=torch.float64), torch.tensor(0.7, dtype=torch.float64), FOX)
    assert [float(z) for z in back] == pytest.approx((0.39892332006510145, 0.6989252268194008), abs=1e-9)


@pytest.mark.parametrize("name", CORNERS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
def test_undistort_is_the_inverse_both_ways(name: str, dtype: torch.dtype, tolerance: float) -> None:
    """Over the whole picture; float32 loses the digits of numbers near 1, a few times over."""
    camera, width, height = CORNERS[name]
    x, y = grid(width, height, dtype)
    for there, back in ((distort, undistort), (undistort, distort)):
        again = back(*there(x, y, camera), camera)
        for got, want in zip(again, (x, y), strict=True):
            assert got.dtype == dtype
            torch.testing.assert_close(got, want, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", CORNERS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_undistort_against_the_fixed_point(name: str, dtype: torch.dtype, tolerance: float) -> None:
    """The inverse that OpenCV computes; it may stop 1e-10 short of where Newton's method goes."""
    camera, width, height = CORNERS[name]
    x, y = grid(width, height, torch.float64)
    found = found_by_fixed_point(x.numpy(), y.numpy(), camera)
    for got, want in zip(undistort(x.to(dtype), y.to(dtype), camera), found, strict=True):
        torch.testing.assert_close(got.double(), torch.from_numpy(want), rtol=0, atol=tolerance)


def test_a_wide_lens_against_bisection() -> None:
    """Half as far again from the middle as the picture's corner: there the fixed point is slow, bisection is not."""
    for x, y in ((1.2, 0.3), (0.0, 1.1), (-0.9, -0.9)):
        u, v = undistort(torch.tensor(x, dtype=torch.float64), torch.tensor(y, dtype=torch.float64), WIDE)
        assert (float(u), float(v)) == pytest.approx(found_by_bisection(x, y, WIDE), abs=1e-9)


def test_beyond_a_fold_points_stay_near_it() -> None:
    """No inverse, so no demand on the place, but a ray must not run wild: within a step of the fold, finite."""
    barrel = lens(k1=-0.3)
    fold = fold_radius(barrel)
    assert fold == pytest.approx(math.sqrt(1 / 0.9))
    x, y = grid(1.5, 1.5, torch.float32)
    u, v = undistort(x, y, barrel)
    radius = torch.hypot(u, v)
    assert bool(radius.isfinite().all())
    assert float(radius.max()) < fold + 0.5 * math.sqrt(2)
    reachable = torch.hypot(x, y) < 0.95 * fold * (1 - 0.3 * fold**2)
    assert 20 < int(reachable.sum()) < reachable.numel() / 2
    again = torch.stack(distort(u, v, barrel), -1)[reachable]
    torch.testing.assert_close(again, torch.stack((x, y), -1)[reachable], rtol=0, atol=1e-5)


def test_any_lens_gives_finite_rays_and_the_root_before_the_fold() -> None:
    """Coefficients at random: finite everywhere, and the inverse wherever no fold is near and the lens moves points by
    less than a fifth of their radius, as real ones do."""
    generator = torch.Generator().manual_seed(0)
    size = torch.tensor([0.5, 0.3, 0.1, 0.05, 0.01, 0.01])
    side = torch.linspace(-1.2, 1.2, 41, dtype=torch.float64)
    u, v = torch.meshgrid(side, side, indexing="ij")
    r = torch.hypot(u, v)
    compared = 0
    for _ in range(50):
        values = ((torch.rand(6, generator=generator) * 2 - 1) * size).tolist()
        camera = lens(**dict(zip(("k1", "k2", "k3", "k4", "p1", "p2"), values, strict=True)))
        wild = undistort((1.5 * u).float(), (1.5 * v).float(), camera)
        assert all(bool(z.isfinite().all()) for z in wild), camera
        x, y = distort(u, v, camera)
        fair = (torch.hypot(x - u, y - v) < 0.2 * r) & (r < 0.8 * fold_radius(camera))
        compared += int(fair.sum())
        for got, want in zip(undistort(x, y, camera), (u, v), strict=True):
            torch.testing.assert_close(got[fair], want[fair], rtol=0, atol=1e-6)
    assert compared > 20_000  # of 84 050


def test_gradients_through_undistort() -> None:
    """Of points and of coefficients, also where a point has no inverse: finite there, right elsewhere."""

    def through(x: torch.Tensor, y: torch.Tensor, coefficients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        class Lens:
            k1, k2, k3, k4, p1, p2 = coefficients.unbind()

        return undistort(x, y, Lens())

    generator = torch.Generator().manual_seed(1)
    x, y = (((torch.rand(6, generator=generator, dtype=torch.float64) - 0.5) * 1.4).requires_grad_() for _ in range(2))
    coefficients = torch.tensor([-0.3, 0.1, -0.02, 0.001, 0.01, -0.02], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(through, (x, y, coefficients))
    far = torch.tensor([2.0, 0.0, math.sqrt(1 / 0.9)], dtype=torch.float64, requires_grad=True)  # the last on the fold
    u, v = undistort(far, torch.zeros_like(far), lens(k1=-0.3))
    (u.sum() + v.sum()).backward()
    assert far.grad is not None and bool(far.grad.isfinite().all())


@pytest.mark.parametrize(
    ("coefficients", "expected"),
    [
        ({}, math.inf),
        ({"k1": 0.1}, math.inf),
        ({"k1": -0.3}, math.sqrt(1 / 0.9)),  # 1 - 3 * 0.3 r^2 = 0
        ({"k1": -0.3, "k2": 0.1}, math.inf),  # 1 - 0.9 s + 0.5 s^2 has no real root
        ({"k2": -0.2}, 1.0),  # 1 - 5 * 0.2 r^4 = 0
        ({"k1": -0.8, "k2": 0.28}, math.sqrt(1 / 1.4)),  # 1 - 2.4 s + 1.4 s^2 = (1 - s)(1 - 1.4 s): the nearer root
    ],
)
def test_where_a_lens_folds(coefficients: dict[str, float], expected: float) -> None:
    assert fold_radius(lens(**coefficients)) == pytest.approx(expected)
