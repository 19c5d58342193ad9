"""``nerf-metal render``: render pictures and films of a run."""

from __future__ import annotations

import functools
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, NoReturn

from nerf_metal.cli.arguments import read_options
from nerf_metal.cli.opened import OpenedModel, RunOptions, open_model
from nerf_metal.export.outputs import OUTPUTS
from nerf_metal.util.errors import InputError
from nerf_metal.util.splits import SPLITS, SplitName

if TYPE_CHECKING:
    from torch import Tensor

    from nerf_metal.data.cameras import Intrinsics
    from nerf_metal.data.scene import Scene, Split
    from nerf_metal.export.camera_paths import CameraPath

MADE = ("orbit", "spiral", "interpolate")
FPS, SECONDS = 30.0, 4.0  # a smooth turn; two minutes of rendering on two slow cores
KEYS = 8  # default number of cameras of --path interpolate: a pose every half second


@dataclass(frozen=True)
class RenderOptions(RunOptions):
    """Render pictures or a film of a run.

    Files in RUN/renders/PATH:
    - NAME.png: the colours of a frame
    - depth/NAME.png and so on: its other outputs
    - rgb.mp4, depth.mp4 and so on: the film; RUN/video.mp4 is a copy of rgb.mp4

    Existing frames are kept: the same command continues after an interruption.
    """

    path: str | None = None
    """What to render. test, train and val are the views of a split. orbit is a film on a circle around the point that
    the cameras look at. spiral is a film around their mean pose. interpolate is a film through --cameras. FILE.json is
    a camera path made by nerf-metal view or by nerfstudio's viewer. None means test."""
    split: SplitName | None = None
    """Split to render: the same as --path with the name of a split."""
    frames: int | None = None
    """Number of frames of a film. None means --seconds times --fps."""
    seconds: float | None = None
    """Length of a film in seconds. None means 4."""
    fps: float | None = None
    """Frames per second of the video. None takes the number in FILE.json, or 30."""
    cameras: str | None = None
    """Training cameras of --path interpolate in order, by index or name, as in 0,5,12. None takes 8 evenly spaced
    cameras, each followed by the nearest one that is left."""
    views: int | None = None
    """Number of views of a split, evenly spaced. None takes all."""
    outputs: str = "rgb"
    """Outputs to render: any of rgb, depth, opacity and normals, separated by commas. Depth is written as 16-bit PNG,
    with its unit in depth.json, and as colours. Normals are in scene coordinates."""
    width: int | None = None
    """Width in pixels. None takes the width of the run's images. A different shape crops the picture."""
    height: int | None = None
    """Height in pixels. None keeps the shape of the run's images."""
    downscale: int | None = None
    """Divide width and height of the run's images by this factor."""
    background: Literal["white", "black"] | None = None
    """Background color behind transparent parts. None takes that of the run's evaluation."""
    video: bool = True
    """Also write an MP4 film of the frames; needs pip install 'nerf-metal[video]'. Views of a split become a film only
    if --video is given."""
    out: str | None = None
    """Folder to write to. None means RUN/renders/PATH."""
    overwrite: bool = False
    """Render existing frames again, and replace the frames of another film."""

    def check(self) -> None:
        """Check the options without reading the run or importing torch.

        Raises:
            InputError: an option is out of range or does not belong to this path.
        """
        if self.path is not None and self.split is not None:
            _reject("split", "be left out beside --path", self.split, "leave one of them out")
        if self.name not in (*SPLITS, *MADE) and not self.name.endswith(".json"):
            _reject("path", f"be one of {', '.join((*SPLITS, *MADE))}, or a FILE.json", self.name, "give one of them")
        for name in ("frames", "views", "width", "height", "downscale"):
            value = getattr(self, name)
            if value is not None and value < 1:
                _reject(name, "be at least 1", value, "leave it out for the default")
        for name, least, most in (("seconds", 0.01, 3600), ("fps", 0.1, 240)):
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                _reject(name, f"be from {least} to {most}", value, "leave it out for the default")
        unknown = [word for word in self.wanted if word not in OUTPUTS]
        if unknown:
            _reject("outputs", f"be of {', '.join(OUTPUTS)}", ",".join(unknown), "correct the name")
        if self.downscale and (self.width or self.height):
            _reject("downscale", "be left out beside --width and --height", self.downscale, "leave one of them out")
        if self.frames and self.seconds:
            _reject("seconds", "be left out beside --frames", self.seconds, "leave one of them out")
        film, made = self.name not in SPLITS, self.name in MADE
        for name, belongs, where in (
            ("frames", made, "to orbit, spiral and interpolate"),
            ("seconds", made, "to orbit, spiral and interpolate"),
            ("cameras", self.name == "interpolate", "to interpolate"),
            ("views", not film, "to test, train and val"),
        ):
            if getattr(self, name) is not None and not belongs:
                _reject(name, f"be left out with --path {self.name}", getattr(self, name), f"it belongs {where}")

    @property
    def name(self) -> str:
        """The path or split to render."""
        return self.path or self.split or "test"

    @property
    def wanted(self) -> tuple[str, ...]:
        """The outputs to render."""
        return tuple(word.strip() for word in self.outputs.split(","))


class Plan(NamedTuple):
    """The frames to render.

    Attributes:
        names: of all frames.
        path: pose and camera of every frame.
        views: indices of the frames to render.
        fps: frames per second of the video.
        capture_to_scene: similarity ``[4, 4]`` from the coordinates of the capture to those of the scene.
    """

    names: list[str]
    path: CameraPath
    views: list[int]
    fps: float
    capture_to_scene: Tensor


def run(args: Sequence[str]) -> int:
    """Run the command and return 0."""
    options = read_options(RenderOptions, "render", args)
    options.check()
    opened = open_model("render", options)

    import torch
    from tqdm import tqdm

    from nerf_metal.data.background import background_color, evaluation_background
    from nerf_metal.export.film import Film, render_frames
    from nerf_metal.export.video import require_ffmpeg, write_video

    video = options.video and (options.name not in SPLITS or "--video" in args)
    if video:
        try:
            require_ffmpeg()
        except InputError as error:
            if "--video" in args:
                raise
            print(f"note: only frames are written, no video: {error}", file=sys.stderr)
            video = False
    # The scene's images are freed before the first frame.
    opened.model.limit_memory(opened.checkpoint.config.max_memory, 0, training=False)
    plan = _plan(options, opened)
    folder = opened.folder.path
    background = options.background or evaluation_background(opened.checkpoint.config.background)
    film = Film(
        Path(options.out) if options.out else folder / "renders" / Path(options.name).stem,
        plan.names,
        plan.path,
        opened.checkpoint.step,
        background,
        float(torch.linalg.det(plan.capture_to_scene[:3, :3]) ** (1 / 3)),
    )
    film.claim(options.overwrite)
    color = background_color(background, torch.zeros(1, 3)).to(opened.device)
    progress = functools.partial(tqdm, desc="frames", disable=None)
    done = render_frames(film, plan.views, options.wanted, opened.model, color, progress)
    videos = []
    for output in options.wanted if video else ():
        path = film.folder / f"{output}.mp4"
        write_video(path, [film.pictures(output, plan.names[index])[-1] for index in plan.views], plan.fps)
        videos.append(path)
        if output == "rgb" and not options.out:
            videos.append(folder / "video.mp4")
            _copy(path, videos[-1])
    camera = plan.path[plan.views[0]][1]
    speed = f", {done.seconds / done.frames:.2f} s each" if done.frames else ""
    kept = f", {done.kept} were there" if done.kept else ""
    print(f"{done.frames} frames of {camera.width} x {camera.height} rendered to {film.folder}{speed}{kept}")
    if videos:
        print(f"film of {len(plan.views) / plan.fps:.1f} s: {', '.join(map(str, videos))}")
    return 0


def _plan(options: RenderOptions, opened: OpenedModel) -> Plan:
    from nerf_metal.data.scene import spread
    from nerf_metal.export.camera_paths import film_camera
    from nerf_metal.train.scenes import open_scene_of

    config, fps = opened.checkpoint.config, options.fps or FPS
    wanted = {"interpolate": "train"}.get(options.name, options.name if options.name in SPLITS else "test")
    scene = open_scene_of(opened.folder.path, config, (wanted,))
    split = scene.splits[wanted]
    if options.name in SPLITS:
        names = [name.rsplit("/", 1)[-1] for name in split.names]
        path = [(split.c2w[i], _sized(split.camera(i), options)) for i in range(len(split))]
        return Plan(names, path, spread(len(split), options.views or len(split)), fps, scene.capture_to_scene)
    if options.name in MADE:
        frames = options.frames or max(1, round((options.seconds or SECONDS) * fps))
        camera = _sized(film_camera(split.camera(0)), options)
        path = _made(options, split, camera, frames, opened)
    else:
        path, file_fps = _read_path(options, scene)
        fps = options.fps or file_fps
    digits = max(4, len(str(len(path) - 1)))
    names = [f"{index:0{digits}d}" for index in range(len(path))]
    return Plan(names, path, list(range(len(path))), fps, scene.capture_to_scene)


def _made(options: RenderOptions, split: Split, camera: Intrinsics, frames: int, opened: OpenedModel) -> CameraPath:
    """Make a path around or through the cameras of a split."""
    from nerf_metal.data.poses import forward_facing
    from nerf_metal.data.scene import spread
    from nerf_metal.export import camera_paths as paths

    c2w, kind = split.c2w, options.name
    if kind == "interpolate":
        if options.cameras is not None:
            chosen = [_find(word.strip(), split) for word in options.cameras.split(",")]
        else:
            chosen = paths.short_tour(c2w, spread(len(split), KEYS))
        return paths.interpolate(c2w[chosen], camera, frames)
    forward = forward_facing(c2w)
    if kind == "orbit" and forward:
        _note("the cameras all look the same way; the film is a spiral instead of an orbit")
    elif kind == "orbit":
        if paths.covered_arc(c2w)[1] < 6.28:
            _note("the cameras stand on one side; the orbit moves back and forth along that side")
        return paths.orbit(c2w, camera, frames)
    elif not forward:
        _note("the cameras look in many directions; the spiral is around one of them")
    return paths.spiral(c2w, camera, frames, _focus(opened, paths.hub_pose(c2w), camera))


def _focus(opened: OpenedModel, hub: Tensor, camera: Intrinsics) -> float:
    """Return the distance of what the middle of a spiral looks at: the median depth in a small picture, or the guess of
    the NeRF paper where nothing is visible."""
    import torch

    from nerf_metal.export.camera_paths import paper_focus
    from nerf_metal.export.frame_pictures import visible_depths

    depths = visible_depths(opened.model, hub, camera, opened.device)
    near, far = opened.checkpoint.near, opened.checkpoint.far
    return float(torch.median(depths)) if len(depths) else paper_focus(near, far)


def _read_path(options: RenderOptions, scene: Scene) -> tuple[CameraPath, float]:
    from nerf_metal.export.camera_path_json import camera_path_from_json

    try:
        text = Path(options.name).read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not text"
        _reject("path", "be a file that can be read", f"{options.name} ({why})", "check the name")
    read = camera_path_from_json(text, options.name, scene.capture_to_scene)
    return [(c2w, _sized(camera, options)) for c2w, camera in read.frames], read.fps


def _sized(camera: Intrinsics, options: RenderOptions) -> Intrinsics:
    from nerf_metal.export.camera_path_json import MOST_PIXELS
    from nerf_metal.export.camera_paths import resized

    if options.downscale:
        return camera.reduced(options.downscale)
    camera = resized(camera, options.width, options.height)
    for name in ("width", "height"):
        if getattr(camera, name) > MOST_PIXELS:
            _reject(name, f"give at most {MOST_PIXELS} pixels a side", getattr(camera, name), "lower it")
    return camera


def _find(word: str, split: Split) -> int:
    """Find a camera by index, name, or name without folder, and return its index."""
    if word.isdecimal() and int(word) < len(split):
        return int(word)
    for index, name in enumerate(split.names):
        if word in (name, name.rsplit("/", 1)[-1]):
            return index
    cure = f"give indices from 0 to {len(split) - 1}, or names as {split.names[0]}"
    _reject("cameras", "name training cameras", word or "nothing", cure)


def _copy(path: Path, to: Path) -> None:
    from nerf_metal.util.atomic import write_atomically

    write_atomically(to, lambda temporary: shutil.copyfile(path, temporary))


def _note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr)


def _reject(name: str, expected: str, value: object, cure: str) -> NoReturn:
    raise InputError(f"[render] --{name} must {expected}, got {value}; {cure}")
