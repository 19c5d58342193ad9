"""``nerf-metal render``: write a run's pictures and films."""

from __future__ import annotations

import functools
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, NoReturn

import tyro

from nerf_metal.cli.opened import OpenedModel, open_model
from nerf_metal.train.options import Backend
from nerf_metal.util.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from nerf_metal.data.cameras import Intrinsics
    from nerf_metal.data.scene import Scene, Split
    from nerf_metal.export.camera_paths import CameraPath

SPLITS = ("train", "val", "test")
MADE = ("orbit", "spiral", "interpolate")
OUTPUTS = ("rgb", "depth", "opacity", "normals")
FPS, SECONDS = 30.0, 4.0  # a smooth turn; two minutes of rendering on two slow cores
KEYS = 8  # cameras of --path interpolate where none are chosen: a pose every half second


@dataclass(frozen=True)
class RenderOptions:
    """Render pictures or a film with a run's checkpoint. Writes RUN/renders/PATH/NAME.png, other outputs into folders
    beside (depth/NAME.png, ...), a film as rgb.mp4, depth.mp4, ... there, and its colours as RUN/video.mp4. Frames that
    are there already are kept: the same command goes on after an interruption."""

    run: Annotated[str, tyro.conf.Positional]
    """Run folder, as nerf-metal train made it."""
    path: str | None = None
    """Views of a split: test, train or val. A film: orbit (a circle around what the cameras look at), spiral (around
    their mean), interpolate (through --cameras), or a camera path FILE.json of nerf-metal view or nerfstudio's viewer.
    None: test."""
    split: Literal["train", "val", "test"] | None = None
    """The same as --path with a split."""
    frames: int | None = None
    """Frames of a film. None: --seconds times --fps."""
    seconds: float | None = None
    """Length of a film. None: 4."""
    fps: float | None = None
    """Frames a second of the video. None: 30, or what FILE.json says."""
    cameras: str | None = None
    """Training cameras of --path interpolate in order, by index or name: 0,5,12. None: 8 evenly spaced ones, in an
    order of short ways."""
    views: int | None = None
    """Views of a split, evenly spaced. None: all."""
    outputs: str = "rgb"
    """Any of rgb, depth, opacity, normals with commas between: depth as 16-bit PNG (depth.json has the unit) and as
    colours, normals in scene coordinates."""
    width: int | None = None
    """Pixels. None: as the run's images; what does not fit another shape is cut off."""
    height: int | None = None
    """Pixels. None: by the width."""
    downscale: int | None = None
    """Shrink the run's size by this factor."""
    background: Literal["white", "black"] | None = None
    """Behind what is transparent. None: as in the run's evaluation."""
    video: bool = True
    """Make an MP4 of the frames (pip install 'nerf-metal[video]'). Of a split's views only with --video."""
    out: str | None = None
    """Folder to write to. None: RUN/renders/PATH."""
    overwrite: bool = False
    """Render again what is there already, also frames of another film."""
    checkpoint: Literal["last", "best"] = "last"
    """Whose weights: the last whole checkpoint, or the one with the greatest PSNR."""
    device: Literal["auto", "cpu", "mps", "cuda"] = "auto"
    """Where to render. auto: mps, else cuda, else cpu."""
    backend: Backend = "auto"
    """Who computes what has a kernel."""

    def check(self) -> None:
        """Refuse what cannot be meant; needs neither the run nor torch."""
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
            _reject("outputs", f"be of {', '.join(OUTPUTS)}", ",".join(unknown), "mend its name")
        if self.downscale and (self.width or self.height):
            _reject("downscale", "be left out beside --width and --height", self.downscale, "leave one of them out")
        if self.frames and self.seconds:
            _reject("seconds", "be left out beside --frames", self.seconds, "leave one of them out; --fps is free")
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
        """Which path."""
        return self.path or self.split or "test"

    @property
    def wanted(self) -> tuple[str, ...]:
        """The outputs."""
        return tuple(word.strip() for word in self.outputs.split(","))


class Plan(NamedTuple):
    """The frames: their names, poses and cameras; which of them are wanted; and what the scene says."""

    names: list[str]
    path: CameraPath
    views: list[int]
    fps: float
    capture_to_scene: Tensor


def run(args: Sequence[str]) -> int:
    """Render as ``args`` say; returns 0."""
    options = tyro.cli(RenderOptions, prog="nerf-metal render", args=list(args))
    options.check()
    opened = open_model("render", options.run, options.device, options.backend, options.checkpoint)

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
            print(f"note: frames without a video: {error}", file=sys.stderr)
            video = False
    opened.model.limit_memory(checkpoint.config.max_memory, 0, training=False)  # the scene's pictures are let go of before the first frame
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
    """A path of ours around or through a split's cameras."""
    from nerf_metal.data.scene import spread
    from nerf_metal.export import camera_paths as paths

    c2w, kind = split.c2w, options.name
    if kind == "interpolate":
        if options.cameras is not None:
            chosen = [_find(word.strip(), split) for word in options.cameras.split(",")]
        else:
            chosen = paths.short_tour(c2w, spread(len(split), KEYS))
        return paths.interpolate(c2w[chosen], camera, frames)
    forward = paths.forward_facing(c2w)
    if kind == "orbit" and forward:
        _note("the cameras all look the same way, with nothing to walk around: a spiral instead of an orbit")
    elif kind == "orbit":
        if paths.covered_arc(c2w)[1] < 6.28:
            _note("the cameras stand on one side: the orbit goes forth and back along it")
        return paths.orbit(c2w, camera, frames)
    elif not forward:
        _note("the cameras look in many directions: a spiral around one of them")
    return paths.spiral(c2w, camera, frames, _focus(opened, paths.hub_pose(c2w), camera))


def _focus(opened: OpenedModel, hub: Tensor, camera: Intrinsics) -> float:
    """How far away is what a spiral's middle looks at: the median depth in a small picture, or the NeRF paper's guess
    where nothing is seen."""
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
        why = error.strerror if isinstance(error, OSError) else "no text"
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
    """The index of a camera named by index, name, or name without folder."""
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
