"""``evaluation.png``: the rendered view, the ground truth and their difference, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from nerf_metal.report.tables import shorten
from nerf_metal.train.evaluation import ViewScore
from nerf_metal.util.atomic import write_atomically
from nerf_metal.util.pictures import to_uint8

PANEL = 440
"""The longest side of a picture, pixels: three pictures fit beside each other on a screen."""
GREATEST_ERROR = 0.25
"""The error at the upper end of the colour map: a quarter of the range from black to white is plainly another
colour."""
COLORS = "inferno"  # dark without an error, evenly brighter with it, also for colour-blind readers
GAP, LETTERS = 10, 16
LINE = LETTERS + 8
PAPER, INK = (255, 255, 255), (0, 0, 0)
COLUMNS = ("prediction", "ground truth", "absolute error, mean of R, G, B")


def save_comparison(path: Path, rows: Sequence[tuple[str, ViewScore]]) -> None:
    """Write a PNG with one row per view: prediction, ground truth and difference, under a line of text.

    Args:
        path: the file to write.
        rows: for each view, a label, and its scores with both pictures kept. Pictures may have any size.
    """
    panels = [[_fit(panel) for panel in _panels(view)] for _, view in rows]
    width = max(max(panel.width for row in panels for panel in row), PANEL * 2 // 3)  # the titles need this much
    heights = [LINE + row[0].height + GAP for row in panels]
    font = ImageFont.load_default(LETTERS)
    whole = Image.new("RGB", (3 * width + 4 * GAP, 2 * LINE + 2 * GAP + sum(heights)), PAPER)
    draw = ImageDraw.Draw(whole)
    places = [GAP + column * (width + GAP) for column in range(3)]
    for left, title in zip(places, COLUMNS, strict=True):
        draw.text((left, GAP), title, INK, font)
    top = GAP + LINE
    for (rank, view), row, height in zip(rows, panels, heights, strict=True):
        lpips = "" if view.lpips is None else f"   LPIPS {view.lpips:.3f}"
        scores = f"PSNR {view.psnr:.2f} dB   SSIM {view.ssim:.3f}{lpips}"
        draw.text((GAP, top), f"{rank}:   {shorten(view.name, 50)}   {scores}", INK, font)
        for left, panel in zip(places, row, strict=True):
            whole.paste(panel, (left, top + LINE))
        top += height
    _draw_scale(whole, draw, font, places[2], top, width)
    write_atomically(path, lambda to: whole.save(to, format="png"))


def _panels(view: ViewScore) -> list[np.ndarray]:
    """Return prediction and ground truth, float32 ``[H, W, 3]``, and their absolute difference, ``[H, W]``."""
    prediction, truth = (picture.numpy().astype(np.float32) for picture in (view.prediction, view.truth))
    return [prediction, truth, np.abs(prediction - truth).mean(-1)]


def _fit(panel: np.ndarray) -> Image.Image:
    """Fit a picture, or a map of errors, into a square of :data:`PANEL` pixels.

    A small picture is enlarged by a whole factor without interpolation. A large one is averaged over areas. Errors are
    averaged before they become colours.
    """
    height, width = panel.shape[:2]
    scale = PANEL / max(height, width)
    channels = [Image.fromarray(channel) for channel in np.atleast_3d(panel).transpose(2, 0, 1)]
    size, how = (width * int(scale), height * int(scale)), Image.Resampling.NEAREST
    if scale < 1.0:
        size, how = (max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.BOX
    sized = np.stack([np.asarray(channel.resize(size, how)) for channel in channels], -1)
    return _bytes(sized if panel.ndim == 3 else _colors(sized[..., 0] / GREATEST_ERROR))


def _colors(values: np.ndarray) -> Any:
    """Map values, clipped to [0, 1], to colours ``[..., 3]``."""
    from matplotlib import colormaps  # the import takes a quarter of a second

    return colormaps[COLORS](values)[..., :3]


def _bytes(picture: np.ndarray) -> Image.Image:
    return Image.fromarray(to_uint8(picture))


def _draw_scale(whole: Image.Image, draw: ImageDraw.ImageDraw, font: Any, left: int, top: int, width: int) -> None:
    """Draw the colour scale of the errors under their column."""
    numbers = ("0", f"{GREATEST_ERROR:g} or more")
    start = left + int(draw.textlength(numbers[0], font)) + GAP
    length = left + width - start - GAP - int(draw.textlength(numbers[1], font))
    bar = _bytes(np.broadcast_to(_colors(np.linspace(0.0, 1.0, length)), (LETTERS, length, 3)))
    whole.paste(bar, (start, top))
    draw.text((left, top), numbers[0], INK, font)
    draw.text((start + length + GAP, top), numbers[1], INK, font)
