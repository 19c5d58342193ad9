"""MP4 films that play everywhere, written by imageio-ffmpeg (extra ``video``)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
from numpy.typing import NDArray

from nerf_metal.util.atomic import write_atomically
from nerf_metal.util.errors import InputError
from nerf_metal.util.extras import require

QUALITY = "18"
"""Constant rate factor of x264: 18 is said to look lossless, 23 is x264's default."""
COLORS = "scale=out_color_matrix=bt709:out_range=tv,setparams=color_primaries=bt709:color_trc=bt709:colorspace=bt709"
"""Filter that converts to BT.709 and records it in the file. Without the record, players assume another matrix for
small pictures, and colours shift."""


def require_ffmpeg() -> Any:
    """Import imageio-ffmpeg, which brings its own ffmpeg.

    Raises:
        InputError: the extra is not installed.
    """
    return require("imageio_ffmpeg", extra="video", command="render")


def write_video(path: Path, pictures: list[Path], fps: float) -> None:
    """Write an H.264 film from PNG files.

    Its pixels are 4:2:0, which QuickTime needs, so that a last odd row or column is cut off. Its index is at the front,
    so that the film plays while it loads. ffmpeg prints its own errors to the process's standard error.

    Args:
        path: of the film.
        pictures: paths of the frames, in order.
        fps: frames per second.

    Raises:
        InputError: the pictures differ in size or are a single pixel wide or high, or ffmpeg fails.
    """
    ffmpeg = require_ffmpeg()
    frames = _read(pictures)
    first = next(frames)
    height, width = first.shape[:2]

    def write(to: Path) -> None:
        writer = ffmpeg.write_frames(
            to,
            (width, height),
            fps=fps,
            codec="libx264",
            quality=None,  # its scale has no step for QUALITY
            macro_block_size=2,  # larger blocks would enlarge the pictures
            ffmpeg_log_level="error",
            output_params=["-crf", QUALITY, "-vf", COLORS, "-movflags", "+faststart", "-f", "mp4"],
        )
        try:
            writer.send(None)
            for frame in itertools.chain([first], frames):
                writer.send(np.ascontiguousarray(frame))
            writer.close()
            written = ffmpeg.count_frames_and_secs(to)[0]  # the writer ignores how ffmpeg ended
        except (OSError, RuntimeError) as error:
            raise _unwritten(path, len(pictures), str(error).strip().splitlines()[0]) from None
        finally:
            writer.close()
        if written != len(pictures):
            raise _unwritten(path, len(pictures), f"{written} of them")

    write_atomically(path, write)


def _unwritten(path: Path, count: int, got: str) -> InputError:
    return InputError(
        f"[render] {path} must take {count} frames from ffmpeg, got: {got}; "
        "free some disk space and repeat the command, which keeps the frames"
    )


def _read(pictures: list[Path]) -> Iterator[NDArray[np.uint8]]:
    """Yield one picture after the other as RGB, uint8 ``[H, W, 3]`` with even H and W."""
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
