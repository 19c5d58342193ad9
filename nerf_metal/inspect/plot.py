"""A picture of a scene's cameras and its box, from above and from the side."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from nerf_metal.data.scene import Scene, Split
from nerf_metal.inspect.mistakes import Mistake
from nerf_metal.inspect.views import Array, Views
from nerf_metal.util.atomic import write_atomically
from nerf_metal.util.palette import BLUE, GREEN, GREY, ORANGE, RED

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MADE_BY = "nerf-metal inspect"
"""The program name in the PNG's metadata: a picture with it may be replaced."""
FRUSTUM = 0.07
"""The length of a camera's frustum, relative to the picture: it is visible, and hundreds of them fit."""
MOST_POINTS = 20000
"""The most sparse points that are drawn: more would fill the picture with grey."""
NAMED = 5
"""The most views of mistakes that are named in the picture: more names would hide each other."""
COLORS = {"train": BLUE, "val": GREEN, "test": ORANGE}
_PANELS = (("from above", 0, 1), ("from the side", 0, 2))


def plot_cameras(path: Path, scene: Scene, mistakes: Sequence[Mistake] = ()) -> None:
    """Draw the cameras as frusta in the colour of their split, the box, the outermost box and the sparse points.

    Args:
        path: the PNG file to write.
        scene: the scene to draw.
        mistakes: the views that they name are drawn in red.
    """
    # Importing matplotlib takes half a second.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    views = Views(scene)
    corners = np.concatenate((views.positions, views.box))
    low, high = corners.min(0), corners.max(0)
    margin = 1.2 * FRUSTUM * float((high - low).max())
    limits = np.stack((low - margin, high + margin), -1)
    marked = {name for mistake in mistakes for name in mistake.views}

    figure = Figure(figsize=(12, 6.4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2)
    for axes, (title, x, y) in zip(panels, _PANELS, strict=True):
        _draw_points(axes, scene, limits, x, y)
        _draw_boxes(axes, scene, x, y)
        for split in scene.splits.values():
            _draw_split(axes, split, margin / 1.2, x, y, marked)
        axes.set_title(f"{scene.name} {title}", loc="left")
        axes.set(xlabel="xyz"[x], ylabel="xyz"[y], xlim=limits[x], ylim=limits[y], aspect="equal")
        axes.grid(alpha=0.25)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    with warnings.catch_warnings():  # a folder's name may have letters that the font lacks
        warnings.filterwarnings("ignore", "Glyph")
        write_atomically(path, lambda to: figure.savefig(to, format="png", metadata={"Software": MADE_BY}))


def is_ours(path: Path) -> bool:
    """Return whether a file is a picture by :func:`plot_cameras`, which may be replaced."""
    try:
        with Image.open(path) as picture:
            return picture.info.get("Software") == MADE_BY
    except OSError:
        return False


def _draw_points(axes: Axes, scene: Scene, limits: Array, x: int, y: int) -> None:
    if scene.points is None:
        return
    points = scene.points[:: max(1, len(scene.points) // MOST_POINTS)].numpy()
    inside = ((points > limits[:, 0]) & (points < limits[:, 1])).all(-1)
    axes.plot(*points[inside][:, [x, y]].T, ".", ms=1.5, color=GREY, alpha=0.5, zorder=0, label="sparse points")


def _draw_boxes(axes: Axes, scene: Scene, x: int, y: int) -> None:
    low, high = scene.aabb.double().numpy()
    middle, half = (low + high) / 2, (high - low) / 2
    square = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)]).T
    outermost = 2 ** (scene.cascades - 1)
    for size, style, label in ((1, "-", "box"), (outermost, "--", f"outermost box, {outermost} times as large")):
        if label == "box" or size > 1:
            at = [middle[axis] + size * half[axis] * side for axis, side in zip((x, y), square, strict=True)]
            axes.plot(*at, style, color="black", lw=1.3, label=label)
            if label == "box":
                axes.fill(*at, color="black", alpha=0.06, zorder=0)


def _draw_split(axes: Axes, split: Split, length: float, x: int, y: int, marked: set[str]) -> None:
    from matplotlib.collections import LineCollection

    lines: dict[str, list[Array]] = {}
    named = 0
    for i, (name, pose) in enumerate(zip(split.names, split.c2w.double().numpy(), strict=True)):
        camera = split.camera(i)
        edges = [
            ((column - camera.cx) / camera.fl_x, -(row - camera.cy) / camera.fl_y, -1.0)
            for column, row in ((0, 0), (camera.width, 0), (camera.width, camera.height), (0, camera.height))
        ]
        shape = np.array(edges) / np.linalg.norm(edges, axis=-1, keepdims=True)
        corners = pose[:3, 3] + length * shape @ pose[:3, :3].T
        rays = [np.stack((pose[:3, 3], corner)) for corner in corners]
        color = RED if name in marked else COLORS.get(split.name, BLUE)
        lines.setdefault(color, []).extend(part[:, [x, y]] for part in (*rays, corners[[0, 1, 2, 3, 0]]))
        if color == RED and named < NAMED:
            named += 1
            axes.annotate(name, pose[[x, y], 3], (4, 4), textcoords="offset points", fontsize=7, color=RED)
    for color, parts in lines.items():
        label = f"{split.name}, {len(split)} cameras" if color != RED else "see the mistakes"
        width, order = (1.8, 3) if color == RED else (0.8, 2)
        axes.add_collection(LineCollection(parts, colors=color, linewidths=width, alpha=0.8, zorder=order, label=label))
