"""The embedded scene: what it shows, and that it is always the same."""

import colorsys
import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from nerf_metal.data import Scene, make_embedded_scene
from nerf_metal.data.cameras import Intrinsics, check_c2w, look_at, pixel_rays
from nerf_metal.data.toy.locomotive import BRASS, locomotive
from nerf_metal.data.toy.raytrace import NOTHING, trace_any
from nerf_metal.data.toy.scene import CAMERA_ANGLE_X, RADIUS, SUN, render_view
from nerf_metal.data.toy.solids import Ball, Box, Cone, Material, Solid
from nerf_metal.util.errors import InputError

PLAIN = Material((0.5, 0.5, 0.5))


@pytest.fixture(scope="module")
def scene() -> Scene:
    return make_embedded_scene(resolution=64, train_views=10, test_views=4)


def _hit(solid: Solid, o: tuple[float, ...], d: tuple[float, ...]) -> tuple[float, list[float]]:
    origin, direction = (np.array(v, dtype=np.float32)[:, None] for v in (o, d))
    t = solid.hit(origin, direction)
    return float(t[0]), solid.normal(origin + t * direction)[:, 0].tolist() if np.isfinite(t[0]) else []


def test_solids_by_hand() -> None:
    box = Box((-1, -2, -3), (1, 2, 3), PLAIN)
    assert _hit(box, (5, 0.5, 0.5), (-1, 0, 0)) == (4.0, [1.0, 0.0, 0.0])
    assert _hit(box, (0, 0, -5), (0, 0, 1)) == (2.0, [0.0, 0.0, -1.0])
    assert _hit(box, (5, 2.5, 0), (-1, 0, 0))[0] == math.inf
    assert _hit(box, (5, 0, 0), (1, 0, 0))[0] == math.inf  # behind
    ball = Ball((1, 0, 0), 0.5, PLAIN)
    assert _hit(ball, (5, 0, 0), (-1, 0, 0)) == (3.5, [1.0, 0.0, 0.0])
    assert _hit(ball, (5, 0.6, 0), (-1, 0, 0))[0] == math.inf
    tube = Cone((0, 0, -1), (0, 0, 2), 0.5, 0.5, PLAIN)
    assert _hit(tube, (5, 0, 1), (-1, 0, 0)) == (4.5, [1.0, 0.0, 0.0])
    assert _hit(tube, (0.25, 0, 5), (0, 0, -1)) == (3.0, [0.0, 0.0, 1.0])
    assert _hit(tube, (0.25, 0, -5), (0, 0, 1)) == (4.0, [0.0, 0.0, -1.0])
    assert _hit(tube, (5, 0, 2.5), (-1, 0, 0))[0] == math.inf  # above the cap
    assert _hit(tube, (0.75, 0, 5), (0, 0, -1))[0] == math.inf  # beside it
    # Radius 1 at z = 0, 0 at z = 1: at z = 0.5 the side is at x = 0.5 and its normal at 45 degrees.
    t, normal = _hit(Cone((0, 0, 0), (0, 0, 1), 1.0, 0.0, PLAIN), (5, 0, 0.5), (-1, 0, 0))
    assert t == pytest.approx(4.5)
    assert normal == pytest.approx([math.sqrt(0.5), 0.0, math.sqrt(0.5)], abs=1e-6)


def test_wide_cone_is_entered_through_its_side_from_above() -> None:
    # From straight above, the ray is steeper than the side: the quadratic's leading term is negative.
    t, _ = _hit(Cone((0, 0, 0), (0, 0, 1), 2.0, 0.0, PLAIN), (1, 0, 5), (0, 0, -1))
    assert t == pytest.approx(4.5)


def test_shapes_and_conventions(scene: Scene) -> None:
    assert (scene.near, scene.far) == (2.0, 6.0)
    assert scene.aabb.tolist() == [[-1.5] * 3, [1.5] * 3]
    assert {name: tuple(split.images.shape) for name, split in scene.splits.items()} == {
        "train": (10, 64, 64, 4),
        "test": (4, 64, 64, 4),
    }
    for split in scene.splits.values():
        assert split.has_alpha
        assert split.images.dtype == torch.uint8
        assert split.intrinsics == Intrinsics.from_fov_x(CAMERA_ANGLE_X, 64, 64)
        for pose in split.c2w:
            check_c2w(pose, "embedded")
            assert float(pose[:3, 3].norm()) == pytest.approx(RADIUS, rel=1e-6)


def test_toy_fits_its_box() -> None:
    bounds = np.stack([solid.bounds() for solid in locomotive()])
    assert np.abs(bounds).max() < 1.15
    assert (bounds[:, 1] > bounds[:, 0]).all()


def test_train_and_test_cameras_differ_and_surround_the_toy() -> None:
    scene = make_embedded_scene(resolution=2)
    train, test = (scene.splits[name].c2w[:, :3, 3] for name in ("train", "test"))
    assert (len(train), len(test)) == (100, 20)
    assert torch.cdist(train, test).min() > 0.01
    # Everywhere on the upper half some training camera is near: 100 on 1.07 of a half sphere are about 0.25
    # radians apart, so none of these directions is further than twice that from one.
    azimuth = torch.linspace(0, 2 * math.pi, 50)
    for z in (0.05, 0.4, 0.8):
        flat = math.sqrt(1 - z * z)
        around = RADIUS * torch.stack([flat * azimuth.cos(), flat * azimuth.sin(), azimuth * 0 + z], dim=-1)
        assert torch.cdist(around, train).min(dim=1).values.max() < 0.5 * RADIUS


def test_coverage_edges_and_hues(scene: Scene) -> None:
    images = torch.cat([split.images for split in scene.splits.values()]).numpy()
    alpha = images[..., 3]
    coverage = (alpha > 0).mean(axis=(1, 2))
    assert coverage.min() > 0.10
    assert coverage.max() < 0.60
    assert set(np.unique(alpha)) == {0, 64, 128, 191, 255}  # four rays a pixel
    assert not images[alpha == 0].any()  # nothing hidden under transparent pixels
    hues = np.zeros(12, dtype=int)
    for r, g, b in images[alpha == 255][:, :3] / 255.0:
        hue, saturation, value = colorsys.rgb_to_hsv(r, g, b)
        if saturation > 0.5 and value > 0.25:
            hues[int(hue * 12) % 12] += 1
    assert (hues > 0.01 * (alpha == 255).sum()).sum() >= 5


def test_alpha_agrees_with_the_geometry(scene: Scene) -> None:
    split = scene.splits["test"]
    y, x = np.meshgrid(np.arange(64), np.arange(64), indexing="ij")
    # The four rays of a pixel, offset by a quarter of a pixel, against every solid without any culling.
    count = np.zeros((64, 64), dtype=int)
    for dy in (-0.25, 0.25):
        for dx in (-0.25, 0.25):
            pixels = torch.from_numpy(np.stack([x + dx, y + dy], axis=-1).reshape(-1, 2))
            o, d = (v.numpy().T for v in pixel_rays(split.c2w[1], split.intrinsics, pixels))
            _, index = trace_any(locomotive(), o, d)
            count += (index != NOTHING).reshape(64, 64)
    # Rounding may flip a ray that grazes an edge; anything more is a wrong culling window.
    assert (np.rint(count * 255 / 4).astype(int) != split.images[1, ..., 3].numpy()).sum() <= 2


def _seen_at(point: NDArray[np.float64], eye: NDArray[np.float64]) -> NDArray[np.int64]:
    """The colour of the world point in a small picture whose middle it is, taken from `eye`."""
    camera = Intrinsics.from_fov_x(0.005, 1, 1)
    pose = look_at(torch.from_numpy(eye), torch.from_numpy(point), (0.0, 0.0, 1.0))
    rgba = render_view(pose, camera)[0, 0]
    assert rgba[3] == 255
    colour: NDArray[np.int64] = rgba[:3].astype(np.int64)
    return colour


def test_dome_mirrors_and_matte_parts_do_not() -> None:
    (dome,) = [s for s in locomotive() if isinstance(s, Ball) and s.material is BRASS]
    normal = np.array([0.0, -0.6, 0.8])
    on_dome = np.array(dome.center) + dome.radius * normal
    toward_glint = 2.0 * (SUN @ normal) * normal - SUN
    eyes = [on_dome + 3.0 * np.array(v) for v in (toward_glint, (0.6, -0.8, 0.3))]
    colours = [_seen_at(on_dome, eye) for eye in eyes]
    assert np.abs(colours[0] - colours[1]).max() > 40
    # The dome's lower side mirrors the green boiler to an eye above it, the open to an eye below it.
    on_side = np.array(dome.center) + dome.radius * np.array([0.0, -0.9, -0.436])
    boiler, open_air = (_seen_at(on_side, on_side + 3.0 * np.array(v)) for v in ((0, -0.95, 0.3), (0, -0.9, -0.5)))
    assert boiler[1] > boiler[0]  # green wins over the brass's own tint
    assert open_air[0] > open_air[1]
    # The cab's wall in its shade: the same from everywhere, up to its faint gleam.
    on_wall = np.array([-0.70, 0.39, 0.11])
    shades = [_seen_at(on_wall, on_wall + 3.0 * np.array(v)) for v in ((0.5, 0.8, 0.3), (-0.6, 0.7, 0.3))]
    assert np.abs(shades[0] - shades[1]).max() <= 3


def test_parts_hide_each_other_and_cast_shadows() -> None:
    solids = locomotive()
    middle_wheel = (-0.20, -0.32)  # x, z of its axle
    o = np.array([[middle_wheel[0] - 0.12], [-4.0], [middle_wheel[1] + 0.05]], dtype=np.float32)
    d = np.array([[0.0], [1.0], [0.0]], dtype=np.float32)
    assert np.isfinite([s.hit(o, d)[0] for s in solids]).sum() >= 3  # wheels of both sides, at least
    nearest = solids[trace_any(solids, o, d)[1][0]]
    assert np.allclose(nearest.bounds()[0, 1], -0.325)  # the near wheel's disc is what is seen
    # The red deck between two studs, on the sun's side and in the boiler's shadow, from straight above.
    lit, dark = (np.array([0.235, y, -0.08]) for y in (-0.38, 0.38))
    eye = np.array([0.0, 0.01, 3.0])
    assert _seen_at(lit, lit + eye).sum() > 1.15 * _seen_at(dark, dark + eye).sum()


def test_same_arguments_same_bits(scene: Scene) -> None:
    again = make_embedded_scene(resolution=64, train_views=10, test_views=4)
    other = make_embedded_scene(resolution=64, train_views=10, seed=1, splits=("train",))
    for name, split in scene.splits.items():
        assert torch.equal(split.images, again.splits[name].images)
        assert torch.equal(split.c2w, again.splits[name].c2w)
    assert list(other.splits) == ["train"]
    assert not torch.equal(scene.splits["train"].c2w, other.splits["train"].c2w)


def test_pixels_are_floats_of_the_right_places(scene: Scene) -> None:
    split = scene.splits["train"]
    i, y, x = torch.tensor([0, 3]), torch.tensor([30, 40]), torch.tensor([31, 20])
    pixels = split.pixels(i, y, x)
    assert pixels.dtype == torch.float32
    assert torch.equal(pixels[1], split.images[3, 40, 20].float() / 255.0)


@pytest.mark.parametrize("name", ["resolution", "train_views", "test_views"])
def test_counts_are_checked(name: str) -> None:
    with pytest.raises(InputError, match=rf"^\[make_embedded_scene\] {name} must be at least 1, got 0; "):
        make_embedded_scene(**{name: 0})  # type: ignore[arg-type]


def test_split_names_are_checked() -> None:
    with pytest.raises(InputError, match="splits must be train or test, got 'val'; "):
        make_embedded_scene(splits=("val",))
