"""nerf-metal render: what a frame's pictures say of a sphere that is known, and a film's folder from start to end."""

import json
import math
import subprocess
import types
from pathlib import Path

import imageio.v3 as iio
import imageio_ffmpeg
import numpy as np
import pytest
import torch

import nerf_metal.cli.render
import nerf_metal.train.scenes
from nerf_metal.cli import main
from nerf_metal.cli.opened import OpenedModel
from nerf_metal.data.cameras import Intrinsics, image_rays, look_at
from nerf_metal.export import video
from nerf_metal.export.camera_path_json import camera_path_to_json
from nerf_metal.export.frame_pictures import DepthScale, depth_scale, frame_pictures
from nerf_metal.models.pixels import RenderedPixels
from nerf_metal.train.loop import train
from nerf_metal.train.run_folder import RunFolder
from nerf_metal.util.errors import InputError

RADIUS = 0.8
WHITE = torch.ones(3)
CAMERA = Intrinsics.from_fov_x(0.7, 40, 30)
POSE = look_at((3.0, -2.0, 1.5), (0.0, 0.0, 0.0), (0.0, 0.0, 1.0))


class Sphere:
    """An opaque ball around the origin, coloured by position; stops the render after ``frames``."""

    box = torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])

    def __init__(self, frames: float = math.inf) -> None:
        self.left = frames

    def limit_memory(self, max_memory: float, held_bytes: int, *, training: bool) -> None:
        pass

    def density(self, positions: torch.Tensor) -> torch.Tensor:
        return 1e4 * (positions.norm(dim=-1) < RADIUS)

    def render(self, rays_o: torch.Tensor, rays_d: torch.Tensor, background: torch.Tensor) -> RenderedPixels:
        if self.left <= 0:
            raise KeyboardInterrupt
        self.left -= 1
        t, hits = hit(rays_o, rays_d)
        rgb = torch.where(hits[:, None], 0.5 + 0.5 * (rays_o + t[:, None] * rays_d), background)
        return RenderedPixels(rgb, hits.float(), t * hits)


def hit(rays_o: torch.Tensor, rays_d: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Distance to the ball, and whether it is hit."""
    b = (rays_o * rays_d).sum(-1)
    root = b * b - rays_o.square().sum(-1) + RADIUS**2
    return -b - root.clamp(min=0).sqrt(), root > 0


def test_depths_are_metric_along_the_ray():
    path = [(POSE, CAMERA)]
    scale = depth_scale(Sphere(), path, torch.device("cpu"))
    assert scale.unit * 65535 == pytest.approx(math.sqrt(16 + 9 + 6.25))  # to the farthest corner of the box
    t, hits = (x.view(30, 40) for x in hit(*image_rays(POSE, CAMERA)))
    assert t[hits].min() <= scale.near < t[hits].quantile(0.1)
    assert t[hits].quantile(0.9) < scale.far <= t[hits].max() + 1e-3
    pictures = frame_pictures(Sphere(), POSE, CAMERA, ("depth", "opacity"), WHITE, scale)
    depth, colors = pictures["depth"], pictures["depth_colors"].astype(int)
    assert depth.dtype == np.uint16 and ((depth > 0) == hits.numpy()).all()
    assert np.abs(depth * scale.unit - t.numpy())[hits].max() <= 0.51 * scale.unit + 1e-6
    assert ((pictures["opacity"] == 255) == hits.numpy()).all() and set(np.unique(pictures["opacity"])) == {0, 255}
    assert (colors[~hits] == 255).all()
    middle, edge = colors[15, 20], colors[15, int(hits[15].nonzero()[0])]
    assert middle[0] > middle[2] and edge[2] > edge[0]  # near is warm, far is cold


def test_little_opacity_has_no_depth():
    class Veil(Sphere):
        def render(self, rays_o, rays_d, background):
            return RenderedPixels(rays_o * 0, torch.full_like(rays_o[:, 0], 0.4), torch.ones_like(rays_o[:, 0]))

    pictures = frame_pictures(Veil(), POSE, CAMERA, ("depth", "opacity"), WHITE, DepthScale(1e-3, 0.5, 2.0))
    assert not pictures["depth"].any() and (pictures["opacity"] == 102).all()
    empty = depth_scale(Veil(), [(POSE, CAMERA)], torch.device("cpu"))
    assert (empty.near, empty.far) == (0.0, pytest.approx(empty.unit * 65535))


def test_normals_point_outwards():
    rays_o, rays_d = image_rays(POSE, CAMERA)
    t, hits = hit(rays_o, rays_d)
    normals = frame_pictures(Sphere(), POSE, CAMERA, ("normals",), WHITE, None)["normals"].reshape(-1, 3)
    assert (normals[~hits] == 255).all()
    found = torch.from_numpy(normals[hits] / 127.5 - 1).float()
    assert torch.allclose(found.norm(dim=-1), torch.tensor(1.0), atol=0.02)
    true = ((rays_o + t[:, None] * rays_d) / RADIUS)[hits]
    angles = torch.rad2deg(torch.arccos((true * found).sum(-1).clamp(-1, 1)))
    assert angles.median() < 5 and angles.quantile(0.95) < 12  # 48 directions: 4 and 9 on a plane


@pytest.fixture
def sphere_run(tmp_path, monkeypatch, cube_scene):
    """A run of the ball with the cube's cameras; calls ``nerf-metal render``, ``left`` frames until it is stopped."""
    step = [7]
    scene = types.SimpleNamespace(splits=cube_scene.splits, capture_to_scene=torch.diag(torch.tensor([2.0, 2, 2, 1])))
    monkeypatch.setattr(nerf_metal.train.scenes, "open_scene", lambda config, splits: scene)

    def render(*args: str, left: float = math.inf) -> int:
        checkpoint = types.SimpleNamespace(
            config=types.SimpleNamespace(max_memory=4.0, background="random", data=None),
            step=step[0],
            near=2.0,
            far=6.0,
        )
        opened = OpenedModel(RunFolder(tmp_path), checkpoint, Sphere(left), torch.device("cpu"))
        monkeypatch.setattr(nerf_metal.cli.render, "open_model", lambda *_: opened)
        return main(["render", str(tmp_path), *args])

    render.step = step
    return render


def files(folder: Path) -> dict[str, bytes]:
    return {str(x.relative_to(folder)): x.read_bytes() for x in sorted(folder.rglob("*")) if x.is_file()}


def read_video(path: Path, side: int) -> np.ndarray:
    """The frames ``[N, side, side, 3]`` of a file at its own rate; imageio-ffmpeg's reader leaves its pipes open."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path)]
    done = subprocess.run([*command, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], capture_output=True, check=True)
    return np.frombuffer(done.stdout, np.uint8).reshape(-1, side, side, 3)


ALL = ("--outputs", "rgb,depth,opacity,normals")


def test_a_film_of_an_orbit(sphere_run, tmp_path, capsys):
    """Every output as pictures and as a video, 0.5 s at 12 frames a second; sizes odd on purpose."""
    assert sphere_run("--path", "orbit", *ALL, "--seconds", "0.5", "--fps", "12", "--width", "31") == 0
    folder = tmp_path / "renders" / "orbit"
    kinds = {"": 3, "depth/": 1, "depth_colors/": 3, "opacity/": 1, "normals/": 3}
    for kind, channels in kinds.items():
        pictures = [iio.imread(folder / f"{kind}{index:04d}.png") for index in range(6)]
        assert all(x.shape == ((31, 31, 3) if channels == 3 else (31, 31)) for x in pictures)
        assert not (folder / f"{kind}0006.png").exists()
    about = json.loads((folder / "depth.json").read_text())
    assert about["capture_units_per_value"] == about["scene_units_per_value"] / 2
    depth = iio.imread(folder / "depth" / "0003.png")
    distance = math.hypot(4, 1 + 0.5 * math.sin(0.9)) - RADIUS  # the cube's cameras
    assert depth[15, 15] * about["scene_units_per_value"] == pytest.approx(distance, abs=1e-3)
    for name, kind in (("rgb", "."), ("depth", "depth_colors"), ("opacity", "opacity"), ("normals", "normals")):
        film = read_video(folder / f"{name}.mp4", 30)
        assert len(film) == 6
        pictures = np.stack([iio.imread(folder / kind / f"{index:04d}.png")[:30, :30] for index in range(6)])
        means = pictures.reshape(6, 900, -1).mean(1)
        assert np.abs(film.mean((1, 2)) - means).max() < 4  # the order of frames and of channels is that of the files
    assert (tmp_path / "video.mp4").read_bytes() == (folder / "rgb.mp4").read_bytes()
    probe = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(folder / "rgb.mp4")]
    about = subprocess.run(probe, capture_output=True, text=True, check=False).stderr
    assert all(word in about for word in ("h264", "yuv420p(tv, bt709, progressive)", " 30x30", " 12 fps", "0.50,")), (
        about
    )
    header = (folder / "rgb.mp4").read_bytes()
    assert header.index(b"moov") < header.index(b"mdat")  # plays while it loads
    printed = capsys.readouterr()
    assert f"6 frames of 31 x 31 rendered to {folder}, " in printed.out and "film of 0.5 s: " in printed.out


def test_a_film_that_was_stopped_goes_on(sphere_run, tmp_path, capsys):
    """The same files as one that was not; a file that a killed process left half-written is swept away."""
    shared = ("--path", "interpolate", *ALL, "--frames", "5", "--height", "12")
    assert sphere_run(*shared, "--out", str(tmp_path / "whole")) == 0
    assert not (tmp_path / "video.mp4").exists()  # the run's film is one of its own folder
    folder = tmp_path / "renders" / "interpolate"
    probes = 5  # small pictures for the range of depths
    assert sphere_run(*shared, left=probes + 2) == 130
    assert {x.name for x in folder.glob("*.png")} == {"0000.png", "0001.png"} and not list(folder.glob("*.mp4"))
    (folder / "depth_colors" / "0001.png").unlink()
    (folder / "normals" / ".0000.png.tmp").write_bytes(b"half")
    before = (folder / "0001.png").stat().st_mtime_ns
    capsys.readouterr()
    assert sphere_run(*shared, left=4) == 0  # the depths' range is known, one frame is kept, one mended
    assert "4 frames of 12 x 12 rendered to " in (out := capsys.readouterr().out) and ", 1 were there" in out
    assert files(folder) == files(tmp_path / "whole") and (folder / "0001.png").stat().st_mtime_ns == before
    assert sphere_run(*shared, left=0) == 0 and "0 frames of " in capsys.readouterr().out


def test_frames_of_another_film_are_not_mixed(sphere_run, tmp_path, capsys):
    orbit = ("--path", "orbit", "--no-video", "--width", "8", "--frames")
    assert sphere_run(*orbit, "3") == 0
    for args, message in (
        ((*orbit, "2"), "frames of other cameras; "),
        ((*orbit, "3", "--background", "black"), "frames of another background (white, now black); "),
    ):
        assert sphere_run(*args, left=0) == 2
        error = capsys.readouterr().err
        assert message in error and "add --overwrite or give another --out" in error and error.count("\n") == 1
    sphere_run.step[0] = 9
    assert sphere_run(*orbit, "3") == 2 and "another checkpoint step (7, now 9)" in capsys.readouterr().err
    folder = tmp_path / "renders" / "orbit"
    (folder / "mine.txt").write_text("kept")
    assert sphere_run(*orbit, "2", "--overwrite") == 0
    assert {x.name for x in folder.iterdir()} == {"0000.png", "0001.png", "path.json", "mine.txt"}
    (tmp_path / "photos").mkdir()
    iio.imwrite(tmp_path / "photos" / "me.png", np.zeros((2, 2, 3), np.uint8))
    assert sphere_run(*orbit, "2", "--out", str(tmp_path / "photos")) == 2
    assert "with pictures of unknown origin; " in capsys.readouterr().err


def test_views_of_a_split(sphere_run, tmp_path, capsys):
    """RUN/renders/SPLIT/NAME.png, no video unless asked for; more views later go to the same folder."""
    assert sphere_run("--split", "test", "--views", "2") == 0
    folder = tmp_path / "renders" / "test"
    assert {x.name for x in folder.iterdir()} == {"0.png", "2.png", "path.json"}
    assert "2 frames of 16 x 16" in capsys.readouterr().out
    assert sphere_run("--outputs", "rgb,opacity", "--video", "--fps", "3") == 0
    assert "3 frames of 16 x 16" in (out := capsys.readouterr().out) and "film of 1.0 s" in out
    assert len(read_video(folder / "rgb.mp4", 16)) == 3 and len(list(folder.glob("opacity/*.png"))) == 3
    assert sphere_run("--path", "train", "--views", "1", "--downscale", "2") == 0
    assert iio.imread(tmp_path / "renders" / "train" / "6.png").shape == (8, 8, 3)


def test_a_path_of_a_file(sphere_run, tmp_path, capsys):
    """In the capture's coordinates, half as large: the ball is seen from 4 away."""
    pose = look_at((2.0, 0.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, 1.0))
    about = camera_path_to_json([(pose, Intrinsics.from_fov_x(0.7, 20, 10))] * 2, fps=5)
    (tmp_path / "mine.json").write_text(json.dumps({**about, "frame": "capture"}))
    assert sphere_run("--path", str(tmp_path / "mine.json"), "--outputs", "depth") == 0
    folder = tmp_path / "renders" / "mine"
    scale = json.loads((folder / "depth.json").read_text())["scene_units_per_value"]
    assert iio.imread(folder / "depth" / "0001.png")[5, 10] * scale == pytest.approx(4 - RADIUS, abs=0.01)
    assert "film of 0.4 s" in capsys.readouterr().out and not (tmp_path / "video.mp4").exists()
    (tmp_path / "mine.json").write_text("{")
    for name, message in (("mine.json", "must be JSON"), ("none.json", "(No such file or directory)")):
        assert sphere_run("--path", str(tmp_path / name)) == 2
        assert message in (error := capsys.readouterr().err) and error.count("\n") == 1


def test_forward_facing_cameras_get_a_spiral(sphere_run, cube_scene, monkeypatch, capsys, tmp_path):
    eyes = torch.tensor([(4.0, y, 0.5) for y in (-0.3, 0.0, 0.3)])
    monkeypatch.setattr(cube_scene.splits["test"].c2w, "data", look_at(eyes, (0.0, 0.0, 0.0), (0.0, 0.0, 1.0)))
    assert sphere_run("--path", "orbit", "--frames", "8", "--no-video") == 0
    assert "spiral" in capsys.readouterr().err
    pictures = [iio.imread(path) for path in sorted((tmp_path / "renders" / "orbit").glob("*.png"))]
    assert len(pictures) == 8 and all((x[8, 8] != 255).any() for x in pictures)  # the ball stays in the middle


def test_without_the_extra_there_are_frames(sphere_run, tmp_path, monkeypatch, capsys):
    def missing() -> str:
        raise InputError("[render] imageio_ffmpeg must be installed, got none; pip install 'nerf-metal[video]'")

    monkeypatch.setattr(video, "require_ffmpeg", missing)
    orbit = ("--path", "orbit", "--frames", "2", "--width", "8")
    assert sphere_run(*orbit, "--video") == 2
    assert not (tmp_path / "renders").exists() and "pip install 'nerf-metal[video]'" in capsys.readouterr().err
    assert sphere_run(*orbit) == 0
    assert "note: " in capsys.readouterr().err
    assert len(list((tmp_path / "renders" / "orbit").glob("*.png"))) == 2


def test_a_video_keeps_colours(tmp_path):
    """As the file says they are stored: the other usual matrix is 20 off."""
    for index, color in enumerate([(200, 40, 90), (20, 180, 60), (30, 60, 220)]):
        iio.imwrite(tmp_path / f"{index}.png", np.full((16, 16, 3), color, np.uint8))
    video.write_video(tmp_path / "x.mp4", [tmp_path / f"{index}.png" for index in range(3)], 29.97)
    colors = read_video(tmp_path / "x.mp4", 16).mean((1, 2))
    assert np.abs(colors - [(200, 40, 90), (20, 180, 60), (30, 60, 220)]).max() < 3


def test_a_video_that_ffmpeg_cut_short_is_not_kept(tmp_path, monkeypatch):
    """As on a full disk: the library does not look at how ffmpeg ended."""
    iio.imwrite(tmp_path / "a.png", np.zeros((16, 16, 3), np.uint8))
    write_frames = imageio_ffmpeg.write_frames

    def cut_short(*args, output_params, **options):
        return write_frames(*args, output_params=["-frames:v", "3", *output_params], **options)

    monkeypatch.setattr(imageio_ffmpeg, "write_frames", cut_short)
    with pytest.raises(InputError, match=r"x.mp4 must .* 5 .*got: 3 "):
        video.write_video(tmp_path / "x.mp4", [tmp_path / "a.png"] * 5, 30)
    assert {x.name for x in tmp_path.iterdir()} == {"a.png"}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # imageio-ffmpeg leaves a pipe open
def test_a_video_that_cannot_be_made(tmp_path):
    for name, size in (("a", (4, 4)), ("b", (6, 4)), ("c", (4, 1))):
        iio.imwrite(tmp_path / f"{name}.png", np.zeros((*size, 3), np.uint8))
    wrong = {"ab": "--video must .*, got b.png of 4x6; ", "c": "--video must .*, got c.png of 1x4; "}
    for names, message in wrong.items():
        with pytest.raises(InputError, match=message):
            video.write_video(tmp_path / "x.mp4", [tmp_path / f"{name}.png" for name in names], 30)
    with pytest.raises(InputError, match=r"x.mp4 must "):
        video.write_video(tmp_path / "x.mp4", [tmp_path / "a.png"] * 200, -1)
    assert {x.name for x in tmp_path.iterdir()} == {"a.png", "b.png", "c.png"}


@pytest.mark.parametrize(
    ("args", "name", "got"),
    [
        (
            ["--path", "circle"],
            "--path",
            "circle",
        ),
        (["--path", "orbit", "--split", "test"], "--split", "test"),
        (["--path", "orbit", "--frames", "0"], "--frames", "0"),
        (["--path", "orbit", "--fps", "-1"], "--fps", "-1.0"),
        (
            ["--path", "orbit", "--frames", "4", "--seconds", "1"],
            "--seconds",
            "1.0",
        ),
        (["--path", "orbit", "--views", "2"], "--views", "2"),
        (["--path", "x.json", "--frames", "2"], "--frames", "2"),
        (["--frames", "2"], "--frames", "2"),
        (["--path", "spiral", "--cameras", "1,2"], "--cameras", "1,2"),
        (["--path", "interpolate", "--cameras", "0,12"], "--cameras", "12"),
        (["--path", "interpolate", "--cameras", "0,"], "--cameras", "nothing"),
        (["--outputs", "rgb,sky"], "--outputs", "sky"),
        (["--downscale", "2", "--width", "3"], "--downscale", "2"),
        (["--path", "orbit", "--width", "20000"], "--width", "20000"),
        (["--downscale", "99"], "factor", "99"),
    ],
)
def test_bad_options(sphere_run, args, name, got, tmp_path, capsys):
    assert sphere_run(*args) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and f" {name} must " in error and f", got {got}; " in error, error
    assert error.count("\n") == 1 and not (tmp_path / "renders").exists()


@pytest.mark.usefixtures("plain_plots")
def test_a_run_becomes_a_film(tiny_config, cube_scene, monkeypatch, capsys):
    """No double: a run that was trained, cameras by name, and its last weights."""
    folder = RunFolder.create(tiny_config, "cube")
    train(tiny_config, cube_scene, folder, torch.device("cpu"))
    monkeypatch.setattr(nerf_metal.train.scenes, "open_scene", lambda config, splits: cube_scene)
    shared = ("render", str(folder.path), "--device", "cpu", *ALL, "--width", "20")
    assert main([*shared, "--path", "interpolate", "--cameras", "train/0,2,train/4", "--frames", "3"]) == 0
    assert "3 frames of 20 x 20" in capsys.readouterr().out
    made = folder.path / "renders" / "interpolate"
    assert json.loads((made / "path.json").read_text())["checkpoint_step"] == 40
    assert len(read_video(folder.path / "video.mp4", 20)) == 3
    assert iio.imread(made / "0001.png").std() > 0
