"""The check of a scene before training: facts, each likely mistake on invented cameras, and the picture."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from nerf_metal.cli import main
from nerf_metal.data import write_scene
from nerf_metal.data.cameras import Intrinsics, look_at
from nerf_metal.data.photos import PhotoSource, open_photos
from nerf_metal.data.scene import Scene, Split
from nerf_metal.inspect import find_mistakes, list_facts, plot_cameras
from nerf_metal.train.options import TrainConfig

LENS = Intrinsics.from_fov_x(0.8, 8, 8)
BOX = torch.tensor([[-1.5] * 3, [1.5] * 3])
OPENCV = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))


def scene(c2w: torch.Tensor, lens=LENS, box: torch.Tensor = BOX, **changes) -> Scene:
    """Make a scene of black training images from these poses."""
    names = [f"shot_{i}" for i in range(len(c2w))]
    images = torch.zeros(len(c2w), 8, 8, 4, dtype=torch.uint8)
    split = Split("train", images, c2w.float(), lens, names, has_alpha=True)
    return Scene("made-up", "a test", {"train": split}, box, **{"near": 0.05, "far": 20.0, **changes})


def ring(count: int = 24, radius: float = 4.0, target=(0.0, 0.0, 0.0)) -> torch.Tensor:
    """Place cameras on a wavy ring that look nearly at one point."""
    angle = torch.arange(count, dtype=torch.float64) * (2 * torch.pi / count)
    eyes = torch.stack((radius * angle.cos(), radius * angle.sin(), 1 + 0.5 * (3 * angle).sin()), -1)
    targets = torch.tensor(target) + 0.2 * torch.stack(((5 * angle).sin(), (7 * angle).cos(), 0 * angle), -1)
    return look_at(eyes, targets, (0.0, 0.0, 1.0))


def wall() -> torch.Tensor:
    """Place cameras in a plane that look in one direction, as LLFF's do."""
    x, z = torch.meshgrid(torch.linspace(-0.4, 0.4, 5), torch.linspace(-0.3, 0.3, 4), indexing="ij")
    eyes = torch.stack((x, torch.full_like(x, -1.6), z), -1).view(-1, 3)
    return look_at(eyes, eyes * torch.tensor([0.8, 0.0, 0.8]), (0.0, 0.0, 1.0))


def found(made: Scene) -> dict:
    return {mistake.name: mistake for mistake in find_mistakes(made)}


@pytest.mark.parametrize("poses", [ring(), wall(), ring(radius=1.0)])
def test_nothing_is_wrong_with_a_good_capture(poses, cube_scene):
    assert found(scene(poses)) == {}
    assert found(cube_scene) == {}


def test_an_opencv_pose_looks_away():
    assert list(found(scene(ring() @ OPENCV))) == ["axes"]
    mistake = found(scene(ring() @ OPENCV))["axes"]
    assert " 0% of the cameras" in mistake.evidence and "second and third column" in mistake.advice


def test_points_behind_the_cameras_tell_the_axes_of_a_forward_facing_capture():
    points = torch.rand(100, 3) - 0.5
    assert found(scene(wall(), points=points)) == {}
    assert list(found(scene(wall() @ OPENCV, points=points))) == ["axes"]


@pytest.mark.parametrize("similarity", [False, True])
def test_world_to_camera_is_recognised(similarity):
    """The loader may have moved and scaled the poses."""
    c2w = torch.linalg.inv(ring().double())
    moved = torch.eye(4, dtype=torch.float64)
    if similarity:
        turn = look_at((1.0, 2.0, 3.0), (0.0, 0.0, 0.0), (0.0, 0.0, 1.0)).double()[:3, :3]
        moved[:3, :3], moved[:3, 3] = 0.3 * turn, torch.tensor([1.0, -2.0, 0.5])
        c2w = moved @ c2w
        c2w[:, :3, :3] /= 0.3
    assert list(found(scene(c2w, capture_to_scene=moved))) == ["world-to-camera"]


def test_poses_that_make_sense_are_not_inverted_because_their_inverses_do_too():
    """Half turns are their own inverses. With the centre on -z, poses and inverses are both cameras around a point."""
    axes = torch.nn.functional.normalize(ring(40)[:, :3, 3], dim=-1)
    poses = torch.eye(4).repeat(40, 1, 1)
    poses[:, :3, :3] = 2 * axes[:, :, None] * axes[:, None] - torch.eye(3)
    poses[:, :3, 3] = torch.tensor([0.0, 0.0, -1.0]) + 2 * poses[:, :3, 2]
    for c2w in (poses, torch.linalg.inv(poses)):
        assert "world-to-camera" not in found(scene(c2w))


def test_cameras_with_one_position_show_no_depth():
    angle = torch.arange(20) * 0.3
    targets = torch.stack((angle.cos(), angle.sin(), 0 * angle), -1)
    mistake = found(scene(look_at((0.0, 0.0, 0.0), targets, (0.0, 0.0, 1.0))))
    assert list(mistake) == ["no-parallax"]


def test_cameras_that_miss_the_box_are_named():
    good = ring()
    away = ring(target=(0.0, 0.0, 6.0))
    some = torch.cat((good[:16], away[16:]))
    mistake = found(scene(some, format="colmap"))["box-missed"]
    assert mistake.views == tuple(f"shot_{i}" for i in range(16, 24))
    assert "8 of 24" in mistake.evidence and "--scene-scale" in mistake.advice
    assert "within 1.5 of the origin" in found(scene(some))["box-missed"].advice
    assert found(scene(torch.cat((good[:18], away[18:])))) == {}  # a quarter may look past the box
    assert len(found(scene(wall() @ OPENCV))["box-missed"].views) == 20  # it is behind them


def test_scale():
    assert "between near and far" in found(scene(ring(radius=40.0), near=2.0, far=6.0))["scale"].sentence
    tiny = found(scene(ring(radius=40.0), far=100.0, format="transforms"))["scale"]
    assert "tiny" in tiny.sentence and "8.9%" in tiny.evidence and tiny.advice == "lower --scene-scale"
    millionth = torch.diag(torch.tensor([1e-6, 1e-6, 1e-6, 1.0], dtype=torch.float64))
    assert "1e+06 units of the capture" in found(scene(ring(), capture_to_scene=millionth))["scale"].evidence


def test_a_camera_alone():
    poses = ring()
    poses[5, :3, 3] *= 9
    mistake = found(scene(poses, far=100.0))["alone"]
    assert mistake.views == ("shot_5",) and "1 camera is far" in mistake.sentence


def test_near_duplicates():
    poses = ring()
    poses[7], poses[8] = poses[3], poses[3]
    poses[8, :3, 3] += 0.3  # another place
    poses[9, :3, 3] = poses[4, :3, 3]  # another direction
    mistake = found(scene(poses))["near-duplicates"]
    assert mistake.views == ("shot_7",) and "shot_3 and shot_7" in mistake.evidence


def test_few_views():
    assert found(scene(ring(9)))["few-views"].evidence == "there are 9 training images"
    assert found(scene(ring(10))) == {}


def test_implausible_lenses():
    def of(**changes):
        return dataclasses.replace(LENS, **changes)

    lenses = [LENS] * 20 + [of(fl_x=100.0), of(fl_y=0.5), of(cx=6.0), of(cy=5.0)]
    mistake = found(scene(ring(), lenses))["lenses"]
    assert mistake.views == ("shot_20", "shot_21", "shot_22")
    assert "4.58 to 166 degrees" in mistake.evidence and "25% of the image size" in mistake.evidence


@pytest.mark.parametrize(("k1", "k2", "odd"), [(0.0578, -0.0805, False), (-0.3, 0.1, False), (-50.0, 0.0, True)])
def test_a_lens_that_folds_its_picture(k1, k2, odd):
    lens = dataclasses.replace(Intrinsics.from_fov_x(1.2, 8, 8), k1=k1, k2=k2)
    mistake = found(scene(ring(), lens)).get("lenses")
    assert (mistake is not None) is odd
    if odd:
        assert "folds" in mistake.evidence


def test_facts(tmp_path, noise_photo):
    sources = [PhotoSource(noise_photo(i)) for i in range(24)]
    photos = open_photos(sources, downscale=1, max_bytes=1)
    lenses = [dataclasses.replace(LENS, fl_x=2000.0 + i, k1=0.01 * (i // 2)) for i in range(24)]
    c2w, names = ring(), [f"shot_{i}" for i in range(24)]

    def part(name, at):
        images = open_photos([sources[i] for i in at], downscale=1, max_bytes=1)
        return Split(name, images, c2w[at], [lenses[i] for i in at], [names[i] for i in at], has_alpha=False)

    splits = {"train": part("train", [i for i in range(24) if i % 8]), "test": part("test", [0, 8, 16])}
    made = Scene("room", "room", splits, BOX, 0.05, 20.0, cascades=4, format="colmap", points=torch.zeros(7, 3))
    facts = dict(list_facts(made, TrainConfig(downscale=2, max_memory=3.0)))
    assert photos.file_bytes == 24 * 64 * 3
    assert facts["images"] == "21 train, 3 test (--hold-out 8)"
    assert facts["size"] == "8x8 pixels, --downscale 2"
    assert facts["memory"] == (
        "the images take 0 MB of 3 GB (--max-memory), and 0.00461 MB of temporary disk space during training"
    )
    assert facts["lenses"].startswith("24 different lenses; 0.227 to 0.229 x 45.8 degrees")
    assert facts["focal length"] == f"2000 to 2023 x {LENS.fl_y:.3g} pixels"
    assert facts["distortion"] == "k1 0 to 0.11"
    assert facts["box"].endswith("4 cascades, the outermost box is 8 times as large")
    assert facts["points"] == "7 sparse points"


@pytest.fixture
def noise_photo(tmp_path):
    def make(i: int):
        path = tmp_path / f"{i}.png"
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (8, 8, 3), np.uint8)).save(path)
        return path

    return make


def test_the_picture_shows_cameras_where_they_are(tmp_path):
    """One camera is far to the left, and a mistake names it: the leftmost colour in the picture is its red."""
    poses = ring()
    poses[0, :3, 3] = torch.tensor([-60.0, 0.0, 0.0])
    made = scene(poses, far=200.0)
    plot_cameras(tmp_path / "a.png", made, find_mistakes(made))
    rgb = np.asarray(Image.open(tmp_path / "a.png").convert("RGB")).astype(int)
    left = rgb[: int(0.9 * rgb.shape[0]), : rgb.shape[1] // 2]  # without the legend
    blue = np.argwhere(left[..., 2] - left[..., 0] > 120)
    red = np.argwhere(left[..., 0] - left[..., 2] > 150)
    assert len(blue) > 50 and len(red) > 20
    assert red[:, 1].mean() < 0.4 * left.shape[1] < 0.6 * left.shape[1] < blue[:, 1].mean()


def test_the_command(cube_scene, tmp_path, capsys):
    write_scene(cube_scene, tmp_path / "cube")
    out = tmp_path / "cameras.png"
    assert main(["inspect", str(tmp_path / "cube"), "--downscale", "2", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "12 train, 3 test" in text and "8x8 pixels" in text and "No likely mistakes found." in text
    assert out.stat().st_size > 10000
    command = ["inspect", str(tmp_path / "cube"), "--out", str(out)]
    assert main(command) == 0  # it replaces its own picture, and no other file
    out.write_bytes(b"a photograph")
    assert main(command) == 2
    assert f"[inspect] --out must be a new file, got {out}" in capsys.readouterr().err
    assert out.read_bytes() == b"a photograph"
    assert main([*command, "--overwrite"]) == 0 and out.stat().st_size > 10000


def test_the_command_prints_mistakes_within_80_columns(cube_scene, tmp_path, capsys):
    split = cube_scene.splits["train"]
    few = dataclasses.replace(split, c2w=split.c2w @ OPENCV)
    splits = {"train": few, "test": dataclasses.replace(few, name="test")}
    write_scene(dataclasses.replace(cube_scene, splits=splits), tmp_path / "cube")
    assert main(["inspect", str(tmp_path / "cube"), "--out", str(tmp_path / "a.png")]) == 0
    text = capsys.readouterr().out
    assert "1. The cameras look away" in text and "[axes]" in text and "negate the second" in text
    path = str(tmp_path)
    assert max(len(line) for line in text.splitlines() if path not in line) <= 80


@pytest.mark.parametrize("out", ["no/a.png", "."])
def test_a_picture_that_cannot_be_written_is_one_line(tmp_path, capsys, out):
    assert main(["inspect", str(tmp_path), "--out", str(tmp_path / out)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: [inspect] --out must be ") and f", got {tmp_path / out}" in error


def test_no_folder_is_one_line(tmp_path, capsys):
    assert main(["inspect", str(tmp_path / "nothing"), "--out", str(tmp_path / "a.png")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "a.png").exists()
