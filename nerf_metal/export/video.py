"""MP4s that play everywhere, by the ffmpeg that imageio-ffmpeg brings (extra ``video``)."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
from collections.abc import Iterator
from pathlib import Path

import imageio.v3 as iio
import numpy as np
from numpy.typing import NDArray

from nerf_metal.util.atomic import write_atomically
from nerf_metal.util.errors import InputError
from nerf_metal.util.extras import require

QUALITY = "18"  # x264's constant rate factor that is said to look lossless; 23 is its default
# BT.709, said so in the file: players guess another matrix for small pictures, and colours shift.
COLORS = "scale=out_color_matrix=bt709:out_range=tv,setparams=color_primaries=bt709:color_trc=bt709:colorspace=bt709"


def require_ffmpeg() -> str:
    """The ffmpeg to call.

    Raises:
        InputError: the extra is not installed.
    """
    path: str = require("imageio_ffmpeg", extra="video", command="render").get_ffmpeg_exe()
    return path


def write_video(path: Path, pictures: list[Path], fps: float) -> None:
    """Make an H.264 film of PNG files: 4:2:0, which QuickTime wants, and its index at the front, so that it plays while
    it loads. A last odd row or column is cut off: 4:2:0 has none.

    Raises:
        InputError: the pictures differ in size or are a single pixel wide or high, or ffmpeg fails.
    """
    frames = _read(pictures)
    first = next(frames)
    height, width = first.shape[:2]
    command = [
        *(require_ffmpeg(), "-y", "-v", "error"),
        *("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(fps), "-i", "-"),
        *("-vf", COLORS, "-c:v", "libx264", "-pix_fmt", "yuv420p"),
        *("-crf", QUALITY, "-movflags", "+faststart", "-f", "mp4"),
    ]

    def write(to: Path) -> None:
        with subprocess.Popen([*command, str(to)], stdin=subprocess.PIPE, stderr=subprocess.PIPE) as ffmpeg:
            assert ffmpeg.stdin is not None and ffmpeg.stderr is not None
            try:
                with contextlib.suppress(BrokenPipeError):  # it says why below
                    for frame in itertools.chain([first], frames):
                        ffmpeg.stdin.write(frame.tobytes())
                with contextlib.suppress(BrokenPipeError):
                    ffmpeg.stdin.close()
            except BaseException:
                ffmpeg.kill()
                raise
            said = ffmpeg.stderr.read().decode(errors="replace").strip()
        if ffmpeg.returncode:
            reason = said.splitlines()[-1] if said else f"exit code {ffmpeg.returncode}"
            raise InputError(f"[render] {path} must be writable by ffmpeg, got: {reason}; make room, frames are kept")

    write_atomically(path, write)


def _read(pictures: list[Path]) -> Iterator[NDArray[np.uint8]]:
    """The pictures, colours, even in size, one at a time."""
    size = None
    for path in pictures:
        picture = iio.imread(path)
        height, width = picture.shape[0] // 2 * 2, picture.shape[1] // 2 * 2
        size = size or (height, width)
        if (height, width) != size or 0 in size:
            raise InputError(
                f"[render] --video must have pictures of one size of at least 2x2 pixels, got {path.name} of "
                f"{picture.shape[1]}x{picture.shape[0]}; give --width and --height, or use --no-video"
            )
        rgb = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)
        yield rgb[:height, :width]
