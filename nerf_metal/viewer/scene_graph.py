"""What a page draws into the field: the cameras with their photographs, and the scene's box."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from nerf_metal.data.background import composite_over
from nerf_metal.data.cameras import Intrinsics
from nerf_metal.data.scene import Scene, Split, spread
from nerf_metal.util.pictures import to_uint8
from nerf_metal.viewer.axes import fov_and_aspect, pose_for_page

MOST_FRUSTA = 60
"""Of a split: more hide the scene, and a page of photographs loads slowly."""
THUMBNAIL = 64
"""Longer side of a photograph in its frustum, pixels: about as large as it is seen."""
FRUSTUM_SIZE = 0.045
"""Of a frustum, by the cameras' median distance from the box: neighbours among a hundred around an object do not
overlap."""
FRUSTUM_ROOM = 0.35
"""Of a frustum at most, by the cameras' median distance from their nearest neighbour: a capture by hand has rows of
them close together, one before the other."""
LINE = 1.5
"""Width of lines, pixels."""
COLORS = {"train": (60, 60, 70), "test": (230, 120, 20)}
BOX_COLOR = (120, 120, 130)


class NamedCamera(NamedTuple):
    """A camera that one can jump to."""

    name: str
    c2w: torch.Tensor
    camera: Intrinsics


def named_cameras(scene: Scene) -> list[NamedCamera]:
    """All cameras of a scene, in the order of their splits."""
    return [
        NamedCamera(f"{split.name} {i}: {split.names[i].rsplit('/', 1)[-1]}", split.c2w[i], split.camera(i))
        for split in scene.splits.values()
        for i in range(len(split))
    ]


def add_cameras(server: Any, scene: Scene, jump: Callable[[Any, NamedCamera], None]) -> dict[str, Any]:
    """Draw the cameras; ``jump(client, camera)`` is called for one that is clicked. Returns the page's nodes, which
    can be hidden, by the cameras' names."""
    size, crowded = frustum_size(scene)
    nodes, cameras = {}, iter(named_cameras(scene))
    for split in scene.splits.values():
        own = list(itertools.islice(cameras, len(split)))
        for index in spread(len(split), MOST_FRUSTA):
            camera = own[index]
            fov, aspect = fov_and_aspect(camera.camera)
            wxyz, position = pose_for_page(camera.c2w)
            node = server.scene.add_camera_frustum(
                f"/cameras/{split.name}/{index}",
                fov=fov,
                aspect=aspect,
                scale=size,
                thickness=LINE,
                thickness_units="screen",
                color=COLORS.get(split.name, COLORS["test"]),
                image=None if crowded else thumbnail(split, index),
                wxyz=wxyz,
                position=position,
                cast_shadow=False,
                receive_shadow=False,
            )
            node.on_click(lambda event, camera=camera: jump(event.client, camera))
            nodes[camera.name] = node
    return nodes


def frustum_size(scene: Scene) -> tuple[float, bool]:
    """Length of the cameras' frusta, world units, and whether it is less than usual, since cameras are close together:
    then their photographs would hide the field from whoever stands among them.
    """
    places = torch.cat([split.c2w for split in scene.splits.values()])[:, :3, 3]
    usual = FRUSTUM_SIZE * float((places - scene.aabb.mean(0)).norm(dim=-1).median())
    nearest = torch.cdist(places, places).fill_diagonal_(torch.inf).amin(-1).median()
    size = min(usual, max(FRUSTUM_ROOM * float(nearest), 0.1 * usual))  # never too small to be seen
    return size, size < usual


def add_box(server: Any, box: torch.Tensor) -> Any:
    """Draw the edges of a box ``[2, 3]``; returns the page's node."""
    corners = box.detach().cpu().numpy()[np.array(list(itertools.product((0, 1), repeat=3))), np.arange(3)]
    edges = [(a, b) for a, b in itertools.combinations(range(8), 2) if (a ^ b).bit_count() == 1]
    return server.scene.add_line_segments(
        "/box", points=corners[np.array(edges)], colors=BOX_COLOR, thickness=LINE, thickness_units="screen"
    )


def thumbnail(split: Split, index: int) -> NDArray[np.uint8]:
    """A small copy of an image over white, uint8 ``[h, w, 3]``, by means over areas."""
    rgba = split.image(index)
    step = max(1, max(rgba.shape[:2]) // (4 * THUMBNAIL))  # of a large photograph not every pixel
    small = composite_over(rgba[::step, ::step].float() / 255.0, torch.ones(3)).permute(2, 0, 1)[None]
    factor = min(1.0, THUMBNAIL / max(small.shape[2:]))
    size = [max(1, round(length * factor)) for length in small.shape[2:]]
    shrunk = torch.nn.functional.interpolate(small, size, mode="area")[0].permute(1, 2, 0)
    return to_uint8(shrunk)
