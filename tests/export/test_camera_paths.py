"""Paths of cameras: where they go, what they look at; and the JSON that viewers write."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch

from nerf_metal.data.cameras import Intrinsics, look_at, project
from nerf_metal.data.poses import forward_facing
from nerf_metal.export.camera_path_json import camera_path_from_json, camera_path_to_json
from nerf_metal.export.camera_paths import (
    centre_of_view,
    covered_arc,
    film_camera,
    interpolate,
    orbit,
    resized,
    short_tour,
    spiral,
)
from nerf_metal.util.errors import InputError

UP = (0.0, 0.0, 1.0)
CENTRE = torch.tensor([0.3, -0.2, 0.5])
CAMERA = Intrinsics.from_fov_x(0.8, 32, 24)
MIDDLE = torch.tensor([15.5, 11.5])  # of its pictures, centre of the top left pixel at 0


def ring(azimuths: list[float], radius: float = 3.0, height: float = 1.0) -> torch.Tensor:
    a = torch.tensor(azimuths, dtype=torch.float64)
    offset = torch.stack((radius * a.cos(), radius * a.sin(), torch.full_like(a, height)), -1)
    return look_at(CENTRE + offset, CENTRE, UP)


def positions(path) -> torch.Tensor:
    return torch.stack([c2w[:3, 3] for c2w, _ in path])


def test_an_orbit_is_a_closed_circle_around_what_cameras_look_at():
    c2w = ring([0.4, 1.5, 2.9, 4.0, 5.5])
    assert torch.allclose(centre_of_view(c2w).float(), CENTRE, atol=1e-5)
    path = orbit(c2w, CAMERA, 12)
    eyes = positions(path) - CENTRE
    assert torch.allclose(eyes[0], c2w[0, :3, 3] - CENTRE, atol=1e-5)  # begins at the first camera
    assert torch.allclose(eyes.norm(dim=1), torch.tensor(10.0).sqrt().expand(12), atol=1e-5)
    assert torch.allclose(eyes[:, 2], torch.ones(12), atol=1e-5)
    around = (eyes.roll(-1, 0) - eyes).norm(dim=1)  # the last step leads back to the first frame
    assert torch.allclose(around, around[:1].expand(12), atol=1e-5)
    for pose, camera in path:
        pixel, depth = project(pose, camera, CENTRE)
        assert torch.allclose(pixel, MIDDLE, atol=1e-3) and depth > 0
        assert pose[2, 1] > 0  # upright


def test_an_orbit_takes_the_median_distance_and_height():
    far = ring([3.0], radius=30.0, height=20.0)
    path = orbit(torch.cat((ring([0.0, 1.2, 2.0, 4.1, 5.0]), far)), CAMERA, 4)
    assert torch.allclose((positions(path) - CENTRE)[:, :2].norm(dim=1), torch.tensor(3.0), atol=1e-4)


def test_an_orbit_stays_on_the_side_where_cameras_stand():
    c2w = ring([2.8, 3.0, 3.4, 3.9])  # across the jump of atan2
    start, arc = covered_arc(c2w)
    assert start == pytest.approx(2.8, abs=1e-5) and arc == pytest.approx(1.1, abs=1e-5)
    eyes = positions(orbit(c2w, CAMERA, 40)) - CENTRE
    azimuth = torch.atan2(eyes[:, 1], eyes[:, 0]) % (2 * math.pi)
    assert azimuth.min() == pytest.approx(2.8, abs=1e-4) and azimuth.max() == pytest.approx(3.9, abs=1e-4)
    assert (eyes.roll(-1, 0) - eyes).norm(dim=1).max() < 0.3  # closed, without a jump
    assert covered_arc(ring([0.0, math.pi]))[1] == 2 * math.pi


def test_no_orbit_where_cameras_stand_above():
    c2w = look_at(torch.tensor([[0.0, 0, 3], [0, 0, 4], [0, 0, 5]]), (0.0, 0.0, 0.0), (0.0, 1.0, 0.0))
    with pytest.raises(InputError, match=r"\[render\] --path orbit must .*, got .*--path spiral"):
        orbit(c2w, CAMERA, 4)


def grid() -> torch.Tensor:
    """Nine cameras side by side as in LLFF, looking at a point 5 away along +x, z up."""
    across = torch.tensor([(0.0, y, z) for y in (-0.4, 0.0, 0.4) for z in (-0.2, 0.0, 0.2)])
    return look_at(across, torch.tensor([5.0, 0.0, 0.0]), UP)


def test_a_spiral_sways_around_the_mean_and_looks_at_its_focus():
    c2w = grid()
    assert forward_facing(c2w) and not forward_facing(ring([0.0, 1.0, 3.0, 5.0]))
    path = spiral(c2w, CAMERA, 60, focus=5.0)
    eyes = positions(path)
    assert eyes[:, 1].abs().max() == pytest.approx(0.4, rel=0.02)  # nine of ten cameras
    assert eyes[:, 2].abs().max() == pytest.approx(0.2, rel=0.02)
    assert (eyes.roll(-1, 0) - eyes).norm(dim=1).max() < 0.1  # ends where it began: two turns of 2.5 in 60 steps
    for pose, camera in path:
        pixel, _ = project(pose, camera, torch.tensor([5.0, 0.0, 0.0]))
        assert torch.allclose(pixel, MIDDLE, atol=1e-3)
        assert pose[2, 1] > 0.99


def test_a_spiral_of_a_single_camera_and_of_cameras_all_around_is_small():
    for c2w in (ring([1.0]), ring([0.0, 1.0, 3.0, 5.0])):
        eyes = positions(spiral(c2w, CAMERA, 20, focus=4.0))
        away = (eyes - c2w[:, None, :3, 3]).norm(dim=-1).amin(0)
        assert 0.1 < away.max() < 1.0  # an eighth of the focus along each axis


def test_a_path_through_cameras_meets_them_and_moves_evenly():
    keys = ring([0.0, 0.5, 1.4, 2.0])
    keys[:, :3, 3] += torch.tensor([[0.0, 0, 0], [0, 0, 0.3], [0, 0, -0.2], [0, 0.1, 0]])
    path = interpolate(keys, CAMERA, 400)
    poses = torch.stack([c2w for c2w, _ in path])
    assert torch.allclose(poses[[0, -1]], keys[[0, -1]], atol=1e-5)
    step = (poses[1:, :3, 3] - poses[:-1, :3, 3]).norm(dim=1)
    for key in keys:
        nearest = (poses[:, :3, 3] - key[:3, 3]).norm(dim=1).argmin()
        assert (poses[nearest, :3, 3] - key[:3, 3]).norm() < step.max()
        assert (poses[nearest, :3, :3] - key[:3, :3]).abs().max() < 0.02  # two frames' turn
    rotation = poses[:, :3, :3]
    assert torch.allclose(rotation @ rotation.mT, torch.eye(3).expand(400, 3, 3), atol=1e-5)
    turn = (rotation[1:] - rotation[:-1]).flatten(1).norm(dim=1) / math.sqrt(2)
    spread = (keys[:, :3, 3] - keys[:, :3, 3].mean(0)).square().sum(1).mean().sqrt()
    speed = torch.hypot(step, spread * turn)
    assert (speed.max() - speed.min()) / speed.mean() < 0.03


def test_a_path_goes_around_what_cameras_look_at():
    """Opposite cameras: a spline of positions would come within 1 of the middle."""
    eyes = positions(interpolate(ring([0.0, 2.5, 5.0]), CAMERA, 50)) - CENTRE
    assert eyes.norm(dim=1).min() > 0.95 * math.sqrt(10)


def test_a_path_of_cameras_that_face_forward_or_turn_on_the_spot():
    eyes = positions(interpolate(grid()[[0, 4, 8]], CAMERA, 9))
    assert eyes[:, 0].abs().max() < 0.05  # stays in the plane of the grid
    turned = look_at(torch.zeros(3, 3), torch.tensor([[1.0, 0, 0], [0, 1, 0], [-1, 0, 0]]), UP)
    path = interpolate(turned, CAMERA, 9)
    assert positions(path).abs().max() < 1e-5
    assert torch.allclose(path[4][0], turned[1], atol=1e-3)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (ring([0.0]), r"--cameras must .*, got 1; "),
        (ring([0.0, 1.0, 1.0, 2.0]), r"--cameras must .*, got .* 1; "),
    ],
)
def test_no_path_through_too_few_cameras(keys, message):
    with pytest.raises(InputError, match=message):
        interpolate(keys, CAMERA, 5)


def test_a_tour_goes_to_the_nearest_camera_that_is_left():
    assert short_tour(ring([0.0, 3.0, 0.5, 3.2, 1.5]), [0, 1, 2, 3, 4]) == [0, 2, 4, 1, 3]


def test_another_shape_is_cut_not_widened():
    tall = dataclasses.replace(CAMERA, fl_x=20.0, fl_y=21.0, cx=18.0, cy=11.0, k1=0.1)
    assert resized(tall, None, None) is tall
    half = resized(tall, 16, None)
    assert (half.width, half.height, half.fl_x, half.cx, half.cy, half.k1) == (16, 12, 10.0, 9.0, 5.5, 0.1)
    assert resized(tall, None, 12) == half
    square = resized(tall, 24, 24)  # as high as before: only columns are lost
    assert (square.fl_x, square.fl_y, square.cx, square.cy) == (20.0, 21.0, 14.0, 11.0)
    wide = resized(tall, 64, 24)
    assert wide.fl_x == 40.0 and math.atan(12 / wide.fl_y) < math.atan(12 / tall.fl_y)
    film = film_camera(tall)
    assert not film.distorted and (film.cx, film.cy, film.fl_x, film.fl_y) == (16.0, 12.0, 21.0, 21.0)


def some_path() -> list:
    return orbit(ring([0.0, 2.0, 4.0]), Intrinsics.from_fov_x(0.8, 32, 24), 5)


def test_json_round_trip():
    path = some_path()
    about = camera_path_to_json(path, fps=24, keyframes=path[:2], is_cycle=True)
    assert about["seconds"] == pytest.approx(5 / 24) and len(about["keyframes"]) == 2
    assert about["keyframes"][1]["matrix"] == pytest.approx(path[1][0].flatten().tolist())  # row by row
    read = camera_path_from_json(json.dumps(about), "path.json", 7.0 * torch.eye(4))  # not used: ours are scene's
    assert (read.fps, read.is_cycle, len(read.frames)) == (24, True, 5)
    for (c2w, camera), (before, camera_before) in zip(read.frames, path, strict=True):
        assert torch.equal(c2w, before)
        assert dataclasses.astuple(camera) == pytest.approx(dataclasses.astuple(camera_before))


def nerfstudio_file(**changes) -> str:
    """What its viewer writes, with a field of 60 degrees from top to bottom."""
    pose = [[1.0, 0, 0, 1], [0, 0, -1, -2], [0, 1, 0, 3], [0, 0, 0, 1]]
    about = {
        "default_fov": 75.0,
        "default_transition_sec": 2.0,
        "keyframes": [],
        "camera_type": "perspective",
        "render_height": 90,
        "render_width": 160,
        "fps": 30,
        "seconds": 2.0,
        "is_cycle": False,
        "smoothness_value": 0.5,
        "camera_path": [{"camera_to_world": np.ravel(pose).tolist(), "fov": 60.0, "aspect": 16 / 9}],
        "crop": None,
    }
    return json.dumps({name: value for name, value in {**about, **changes}.items() if value is not ...})


def test_a_file_of_nerfstudio():
    (c2w, camera), fps = (read := camera_path_from_json(nerfstudio_file(), "x.json", torch.eye(4))).frames[0], 30
    assert read.fps == fps and (camera.width, camera.height) == (160, 90)
    assert camera.fl_y == camera.fl_x == pytest.approx(45 * math.sqrt(3))
    assert c2w[:3, 3].tolist() == [1, -2, 3] and c2w[:3, 2].tolist() == [0, -1, 0]  # row by row; looks along +y


def test_a_path_in_the_coordinates_of_the_capture():
    turn = torch.tensor([[0.0, -2, 0, 1], [2, 0, 0, 0], [0, 0, 2, -1], [0, 0, 0, 1]], dtype=torch.float64)
    scene = camera_path_from_json(nerfstudio_file(frame="capture"), "x.json", turn).frames[0][0]
    assert scene[:3, 3].tolist() == [5, 2, 5]  # 2 * (2, 1, 3) + (1, 0, -1)
    assert torch.allclose(scene[:3, 2], torch.tensor([1.0, 0, 0])) and torch.det(scene[:3, :3]) == pytest.approx(1)
    pose = camera_path_from_json(nerfstudio_file(frame="scene"), "x.json", turn).frames[0][0]
    assert pose[:3, 3].tolist() == [1, -2, 3]


def shot(**changes) -> list:
    return [{**json.loads(nerfstudio_file())["camera_path"][0], **changes}]


SCALED = np.diag([2.0, 2, 2, 1]).ravel().tolist()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"x.json must .*JSON, got "),
        ("[1]", r"x.json must .*, got \[1\]; "),
        (nerfstudio_file(camera_type="fisheye"), r'camera_type of x.json must .*, got "fisheye"; '),
        (nerfstudio_file(crop={"crop_center": [0, 0, 0]}), r"crop of x.json must .*, got "),
        (nerfstudio_file(frame="world"), r'frame of x.json must .*, got "world"; '),
        (nerfstudio_file(render_width=...), r"render_width of x.json must .*, got null; "),
        (nerfstudio_file(render_height=0.5), r"render_height of x.json must .*, got 0.5; "),
        (nerfstudio_file(render_height=10**400), r"render_height of x.json must .*, got 1000"),
        (nerfstudio_file(fps=0), r"fps of x.json must .*, got 0; "),
        (nerfstudio_file(fps="30"), r'fps of x.json must .*, got "30"; '),
        (nerfstudio_file(camera_path=[]), r"camera_path of x.json must .*, got \[\]; "),
        (nerfstudio_file(camera_path=...), r"camera_path of x.json must .*, got null; "),
        (nerfstudio_file(camera_path=[7]), r"x.json, frame 0 must .*, got 7; "),
        (nerfstudio_file(camera_path=shot() + shot(fov=180)), r"fov of x.json, frame 1 must be .*, got 180; "),
        (nerfstudio_file(camera_path=shot(fov=float("nan"))), r"fov of x.json, frame 0 must be .*, got NaN; "),
        (
            nerfstudio_file(camera_path=shot(camera_to_world=[1] * 12)),
            r"x.json, frame 0 must .*, got \[1, ",
        ),
        (
            nerfstudio_file(camera_path=shot(camera_to_world=["1"] * 16)),
            r"camera_to_world of x.json, frame 0 must .*, got \[\"1\", ",
        ),
        (nerfstudio_file(camera_path=shot(camera_to_world=SCALED)), r"x.json, frame 0\] .* must "),
    ],
)
def test_broken_paths(text, message):
    with pytest.raises(InputError, match=rf"^\[camera path.*{message}") as error:
        camera_path_from_json(text, "x.json", torch.eye(4))
    assert "\n" not in str(error.value) and len(str(error.value)) < 250


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"k1": 0.1}, "cameras must .*k1=0.1"),
        ({"cx": 3.0}, "cameras must .*cx=3.0"),
        ({"fl_x": 99.0}, "cameras must .*fl_x=99.0"),
        ({"width": 33}, "frames must .*, got 33x24"),
    ],
)
def test_what_the_format_cannot_hold_is_not_written(changes, message):
    path = some_path()
    path.append((path[0][0], dataclasses.replace(path[0][1], **changes)))
    with pytest.raises(InputError, match=message):
        camera_path_to_json(path, fps=30)
    with pytest.raises(InputError, match=r"frames must .*, got 0"):
        camera_path_to_json([], fps=30)
