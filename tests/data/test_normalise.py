"""Where captures lie in their scenes: upright, centred, at a known scale, in enough boxes."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from nerf_metal.data.cameras import Intrinsics
from nerf_metal.data.normalise import Placement, place
from nerf_metal.data.poses import forward_facing, upright
from nerf_metal.data.readers.capture import Capture, Frame
from nerf_metal.util.geometry import Array
from tests.data.written import Shot, look, ring

TURN = look(np.zeros(3), np.array([0.3, -0.5, 0.8]))[0]  # any rotation


def _capture(shots: list[Shot], **values: object) -> Capture:
    frames = []
    for shot in shots:
        lens = shot.lens
        camera = Intrinsics(lens["fx"], lens["fy"], lens["cx"], lens["cy"], *shot.size)
        frames.append(Frame(Path(shot.name).stem, Path(shot.name), camera, shot.opengl))
    return Capture(Path("somewhere"), frames, **values)  # type: ignore[arg-type]


def _moved(capture: Capture, turn: Array, scale: float, shift: Array) -> Capture:
    """The same capture in other coordinates."""
    frames = []
    for frame in capture.frames:
        c2w = frame.c2w.copy()
        c2w[:3, :3] = turn @ c2w[:3, :3]
        c2w[:3, 3] = scale * turn @ c2w[:3, 3] + shift
        frames.append(frame._replace(c2w=c2w))
    points = None if capture.points is None else scale * capture.points @ turn.T + shift
    bounds = None if capture.bounds is None else (scale * capture.bounds[0], scale * capture.bounds[1])
    return dataclasses.replace(capture, frames=frames, points=points, bounds=bounds)


def _to_scene(placement: Placement, points: Array) -> Array:
    return points @ placement.capture_to_scene[:3, :3].T + placement.capture_to_scene[:3, 3]


def _row(count: int = 7) -> list[Shot]:
    """Cameras side by side, 1 apart, that look along +y."""
    shots = ring(count)
    for i, shot in enumerate(shots):
        eye = np.array((i - (count - 1) / 2, 0.0, 0.3 * (i % 2)))
        shot.rotation, shot.shift = look(eye, eye + np.array((0.0, 1.0, 0.0)))
    return shots


def test_what_is_looked_at_is_in_the_middle_and_fills_the_cube() -> None:
    placement = place(_capture(ring(12, radius=3.0, centre=(10.0, 20.0, 30.0))))
    np.testing.assert_allclose(_to_scene(placement, np.array([[10.0, 20.0, 30.0]])), 0.0, atol=1e-6)
    distance = math.hypot(3.0, 1.0)
    scale = np.cbrt(np.linalg.det(placement.capture_to_scene[:3, :3]))
    assert scale == pytest.approx(1.0 / (distance * 6.0 / 9.0), rel=0.02)  # half a 12 pixels wide image, focal 9
    assert placement.aabb.tolist() == [[-1.0] * 3, [1.0] * 3]
    assert placement.near == pytest.approx(0.1 * 9.0 / 6.0, rel=0.02)
    assert placement.cascades == 5


@pytest.mark.parametrize("facing", [False, True], ids=["ring", "row"])
def test_the_coordinates_of_a_capture_do_not_matter(facing: bool) -> None:
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (200, 3)) + ((0.0, 4.0, 0.0) if facing else 0.0)
    capture = _capture(_row() if facing else ring(12), points=points)
    first = place(capture)
    moved = _moved(capture, TURN, 7.0, np.array([900.0, -50.0, 3.0]))
    second = place(moved)
    assert forward_facing(capture.poses) == facing
    for name in ("aabb", "cascades", "near", "far"):
        np.testing.assert_allclose(getattr(second, name), getattr(first, name), rtol=1e-6, err_msg=name)
    a, b = first.poses(capture.poses), second.poses(moved.poses)
    np.testing.assert_allclose(b[:, 2, 3], a[:, 2, 3], atol=1e-5)  # heights
    np.testing.assert_allclose(b[:, 2, 1], a[:, 2, 1], atol=1e-5)  # how upright
    np.testing.assert_allclose(np.linalg.norm(b[:, :3, 3], axis=1), np.linalg.norm(a[:, :3, 3], axis=1), atol=1e-5)
    np.testing.assert_allclose(
        b[:, :3, :3].transpose(0, 2, 1) @ b[:, :3, :3], np.tile(np.eye(3), (len(b), 1, 1)), atol=1e-9
    )


def test_up_is_found_although_cameras_look_down_from_one_side() -> None:
    """The mean of the images' upper edges leans towards the gaze; their level edges do not."""
    shots = ring(24, height=4.0)[:10]
    up, sideways = upright(_capture(shots).poses)
    assert not sideways
    assert up @ (0.0, 0.0, 1.0) > math.cos(math.radians(3))
    turned = place(_moved(_capture(shots), TURN, 1.0, np.zeros(3)))
    np.testing.assert_allclose(turned.capture_to_scene[:3, :3] @ TURN @ up / turned_scale(turned), (0, 0, 1), atol=1e-6)


def turned_scale(placement: Placement) -> float:
    """How much larger a placement makes things."""
    return float(np.cbrt(np.linalg.det(placement.capture_to_scene[:3, :3])))


@pytest.mark.parametrize("sign", [1.0, -1.0], ids=["left is up", "right is up"])
def test_photographs_that_lie_on_their_side(sign: float) -> None:
    shots = ring(16, height=2.5)
    roll = np.array([[0.0, sign, 0.0], [-sign, 0.0, 0.0], [0.0, 0.0, 1.0]])
    for shot in shots:
        shot.rotation, shot.shift = roll @ shot.rotation, roll @ shot.shift
    up, sideways = upright(_capture(shots).poses)
    assert sideways
    assert up @ (0.0, 0.0, 1.0) > math.cos(math.radians(3))
    assert "lie on their side" in place(_capture(shots)).notes[0]
    assert place(_capture(shots), orient=False).notes == []


def test_a_stray_camera_does_not_move_the_scene() -> None:
    shots = ring(15)
    shots[4].rotation, shots[4].shift = look(np.array((30.0, 2.0, 1.0)), np.array((30.0, 50.0, 9.0)))
    placement = place(_capture(shots))
    assert np.abs(_to_scene(placement, np.zeros((1, 3)))).max() < 0.05
    assert turned_scale(placement) == pytest.approx(turned_scale(place(_capture(ring(15)))), rel=0.05)


def test_cascades_by_points_and_by_the_hint() -> None:
    shots = ring(12)
    half = 1.0 / turned_scale(place(_capture(shots)))
    rng = np.random.default_rng(0)
    for reach, expected in ((0.8, 2), (1.5, 3), (3.5, 4), (1e4, 8)):
        points = rng.uniform(-0.8, 0.8, (1000, 3)) * half
        points[:100] *= reach / 0.8
        assert place(_capture(shots, points=points)).cascades == expected
    assert [place(_capture(shots, aabb_scale=a)).cascades for a in (1, 4, 16, 1e9)] == [1, 3, 5, 8]
    assert place(_capture(shots, aabb_scale=4), cascades=2).cascades == 2


def test_a_small_thing_fills_the_cube_by_its_points() -> None:
    points = np.random.default_rng(0).uniform(-1, 1, (2000, 3)) * 1.4
    placement = place(_capture(ring(12), points=points))
    inside = np.abs(_to_scene(placement, points)).max(1)
    assert inside.max() == pytest.approx(1.0 / 1.1, rel=0.06)
    # the nearest points are 1.3 or so away: half of that, where without points it is a tenth of the way to the middle
    assert 0.5 < placement.near / turned_scale(placement) < 0.9


def test_far_reaches_every_corner_and_the_scale_leaves_the_boxes() -> None:
    capture = _capture(ring(12))
    for scale in (1.0, 2.0):
        placement = place(capture, scene_scale=scale, cascades=3)
        corners = np.array(np.meshgrid(*[[-4.0, 4.0]] * 3)).reshape(3, -1).T
        eyes = placement.poses(capture.poses)[:, :3, 3]
        assert placement.far >= np.linalg.norm(corners[None] - eyes[:, None], axis=-1).max()
        assert placement.aabb[1].tolist() == [1.0, 1.0, 1.0]
        assert turned_scale(placement) == pytest.approx(scale * turned_scale(place(capture)))


@pytest.mark.parametrize("orient", [True, False])
def test_a_forward_facing_box_holds_what_the_cameras_see(orient: bool) -> None:
    capture = _moved(_capture(_row(), bounds=(2.0, 10.0)), TURN, 3.0, np.array([5.0, 0.0, -9.0]))
    placement = place(capture, orient=orient)
    assert placement.cascades == 1
    assert np.abs(placement.aabb).max() == pytest.approx(1.0)
    for frame, pose in zip(capture.frames, placement.poses(capture.poses), strict=True):
        for depth in (6.0, 30.0):
            for x, y in ((0, 0), (12, 0), (0, 8), (12, 8), (6, 4)):
                local = depth * np.array([(x - 6) / 9, -(y - 4) / 9, -1.0])
                point = _to_scene(placement, (frame.c2w[:3, :3] @ local + frame.c2w[:3, 3])[None])[0]
                assert (point >= placement.aabb[0]).all() and (point <= placement.aabb[1]).all()
                t = np.linalg.norm(point - pose[:3, 3])
                assert placement.near < t < placement.far
    if orient:  # gaze along +y, up along +z; the cameras stand before the box
        np.testing.assert_allclose(-placement.poses(capture.poses)[0, :3, 2], (0, 1, 0), atol=1e-9)
        np.testing.assert_allclose(placement.poses(capture.poses)[0, :3, 1], (0, 0, 1), atol=1e-9)
        assert (placement.poses(capture.poses)[:, 1, 3] < placement.aabb[0, 1]).all()


def test_points_bound_a_forward_facing_capture_too() -> None:
    shots = _row()
    for shot in shots:
        shot.lens["cy"] = 1.0  # hardly anything above the horizon is in the pictures
    rng = np.random.default_rng(0)
    above = rng.uniform((-1, 2, 1.1), (1, 2.1, 1.3), (500, 3))
    points = np.concatenate([rng.uniform((-2, 4, -1), (2, 8, 1), (3000, 3)), above])
    placement = place(_capture(shots, points=points))
    scale = turned_scale(placement)
    assert placement.near / scale == pytest.approx(0.9 * 4.0, rel=0.02)
    assert placement.cascades == 1


def test_cameras_that_do_not_look_at_one_thing() -> None:
    """A room seen from its middle, and cameras all of one place."""
    shots = ring(12, radius=1.0)
    for shot in shots:
        eye = shot.opengl[:3, 3]
        shot.rotation, shot.shift = look(eye, eye * (5.0, 5.0, 1.0))
    placement = place(_capture(shots))
    assert "do not look at one" in placement.notes[0]
    assert np.abs(placement.poses(_capture(shots).poses)[:, :3, 3]).max() == pytest.approx(0.5, rel=0.1)
    for shot in shots:
        shot.shift = np.zeros(3)
    assert np.isfinite(place(_capture(shots)).capture_to_scene).all()
    assert np.isfinite(place(_capture(ring(1))).capture_to_scene).all()
