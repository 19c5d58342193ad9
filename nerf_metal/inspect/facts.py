"""The facts of a scene, as rows of a name and a value."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from nerf_metal.data.cameras import DISTORTION
from nerf_metal.data.photos import Photos
from nerf_metal.data.scene import Scene
from nerf_metal.inspect.views import Views, fields_of_view
from nerf_metal.train.options import TrainConfig


def list_facts(scene: Scene, config: TrainConfig) -> list[tuple[str, str]]:
    """Return name and value of each fact: images, memory, lenses, box and cameras.

    Args:
        scene: a scene as :func:`nerf_metal.train.scenes.open_scene` loads it.
        config: the options that it was loaded with.
    """
    views = Views(scene)
    cameras = views.cameras
    angles = np.array([fields_of_view(camera) for camera in cameras])
    centre = views.box.mean(0)
    low, high = (", ".join(f"{x:.3g}" for x in corner) for corner in views.box)
    distance = np.linalg.norm(views.positions - centre, axis=-1)
    counts = ", ".join(f"{len(split)} {name}" for name, split in scene.splits.items())
    ruled = "test" in scene.splits and len(scene.splits["test"]) == -(-len(cameras) // config.hold_out)
    rule = f" (--hold-out {config.hold_out})" if ruled and scene.format != "blender" else ""
    same = "one for all views" if len(set(cameras)) == 1 else f"{len(set(cameras))} different lenses"
    rows = [
        ("scene", f"{scene.name} ({scene.source}), format {scene.format}"),
        ("images", counts + rule),
        ("size", _sizes(views) + f" pixels{f', --downscale {config.downscale}' if config.downscale else ''}"),
        ("memory", _memory(scene, config)),
        ("lenses", f"{same}; {_range(angles[:, 0])} x {_range(angles[:, 1])} degrees"),
        ("focal length", f"{_range(c.fl_x for c in cameras)} x {_range(c.fl_y for c in cameras)} pixels"),
        ("principal point", _principal_point(views)),
        ("distortion", _distortion(views)),
        ("box", f"{low} to {high}" + _cascades(scene)),
        ("cameras", f"{_range(distance)} from the centre of the box; near {scene.near:.3g}, far {scene.far:.3g}"),
        ("units", f"1 unit of the scene is {1 / views.capture_scale:.3g} units of the capture"),
    ]
    if scene.points is not None:
        rows.append(("points", f"{len(scene.points)} sparse points"))
    return rows


def _range(values: Iterable[float]) -> str:
    found = list(values)
    low, high = min(found), max(found)
    rounded = [
        round(value, 0 if abs(value) >= 1000 else 6) + 0.0 for value in (low, high)
    ]  # + 0.0 removes the minus of -0.0
    texts = [f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}" for value in rounded]
    return texts[0] if texts[0] == texts[1] else f"{texts[0]} to {texts[1]}"


def _sizes(views: Views) -> str:
    sizes = sorted({(camera.width, camera.height) for camera in views.cameras})
    some = ", ".join(f"{width}x{height}" for width, height in sizes[:3])
    return some + (f" and {len(sizes) - 3} more sizes" if len(sizes) > 3 else "")


def _memory(scene: Scene, config: TrainConfig) -> str:
    """Return the memory of the images and the share of ``--max-memory``."""
    splits = scene.splits.values()
    held = sum(split.image_bytes for split in splits)
    disk = sum(split.images.file_bytes for split in splits if isinstance(split.images, Photos))
    text = f"the images take {_bytes(held)} of {config.max_memory:g} GB (--max-memory)"
    return text + (f", and {_bytes(disk)} of temporary disk space during training" if disk else "")


def _bytes(count: int) -> str:
    return f"{count / 1e9:.3g} GB" if count >= 1e9 else f"{count / 1e6:.3g} MB"


def _principal_point(views: Views) -> str:
    """Return the distance of the principal points from the image centres."""
    right = _range(camera.cx - camera.width / 2 for camera in views.cameras)
    below = _range(camera.cy - camera.height / 2 for camera in views.cameras)
    return (
        "in the image centre" if right == below == "0" else f"{right} pixels right of the image centre, {below} below"
    )


def _distortion(views: Views) -> str:
    used = [name for name in DISTORTION if any(getattr(camera, name) for camera in views.cameras)]
    values = {name: [getattr(camera, name) for camera in views.cameras] for name in used}
    return (
        ", ".join(
            f"{name} {min(found):.3g}" + (f" to {max(found):.3g}" if min(found) < max(found) else "")
            for name, found in values.items()
        )
        or "none"
    )


def _cascades(scene: Scene) -> str:
    if scene.cascades == 1:
        return "; one cascade, nothing outside the box (--cascades 1)"
    return f"; {scene.cascades} cascades, the outermost box is {2 ** (scene.cascades - 1)} times as large"
