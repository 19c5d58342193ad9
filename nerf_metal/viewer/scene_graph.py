"""The objects that a page draws into the field: the cameras with their photographs, and the scene's box."""

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
"""The most drawn cameras of a split: more would hide the scene and slow down the loading of the page."""
THUMBNAIL = 64
"""The longer side of a photograph in its frustum, pixels: about its size on the screen."""
FRUSTUM_SIZE = 0.045
"""The length of a frustum, relative to the cameras' median distance from the centre of the box: of a hundred cameras
around an object, neighbours do not overlap."""
FRUSTUM_ROOM = 0.35
"""The greatest length of a frustum, relative to the median distance between neighbouring cameras: a capture by hand has
rows of cameras close together."""
LINE = 1.5
"""The width of lines, pixels."""
COLORS = {"train": (60, 60, 70), "test": (230, 120, 20)}
BOX_COLOR = (120, 120, 130)


class NamedCamera(NamedTuple):
    """A camera that the page can jump to.

    Attributes:
        name: its split, its index there and the name of its image.
        c2w: pose ``[4, 4]``.
        camera: its intrinsics.
    """

    name: str
    c2w: torch.Tensor
    camera: Intrinsics


def named_cameras(scene: Scene) -> list[NamedCamera]:
    """Return all cameras of a scene in the order of their splits."""
    return [
        NamedCamera(f"{split.name} {i}: {split.names[i].rsplit('/', 1)[-1]}", split.c2w[i], split.camera(i))
        for split in scene.splits.values()
        for i in range(len(split))
    ]


def add_cameras(server: Any, scene: Scene, jump: Callable[[Any, NamedCamera], None]) -> dict[str, Any]:
    """Draw the cameras of a scene.

    Args:
        server: the viser server of the page.
        scene: the scene whose cameras are drawn.
        jump: is called with the page's client and the camera when a camera is clicked.

    Returns:
        The page's nodes by the names of the cameras. A node can be hidden.
    """
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
    """Return the length of the cameras' frusta, world units, and whether the cameras are crowded.

    The frusta of crowded cameras are shorter than usual. Their photographs are not drawn: they would hide the field
    from a viewpoint among the cameras.
    """
    places = torch.cat([split.c2w for split in scene.splits.values()])[:, :3, 3]
    usual = FRUSTUM_SIZE * float((places - scene.aabb.mean(0)).norm(dim=-1).median())
    nearest = torch.cdist(places, places).fill_diagonal_(torch.inf).amin(-1).median()
    size = min(usual, max(FRUSTUM_ROOM * float(nearest), 0.1 * usual))  # always large enough to be visible
    return size, size < usual


def add_box(server: Any, box: torch.Tensor) -> Any:
    """Draw the edges of a box ``[2, 3]`` and return the page's node."""
    corners = box.detach().cpu().numpy()[np.array(list(itertools.product((0, 1), repeat=3))), np.arange(3)]
    edges = [(a, b) for a, b in itertools.combinations(range(8), 2) if (a ^ b).bit_count() == 1]
    return server.scene.add_line_segments(
        "/box", points=corners[np.array(edges)], colors=BOX_COLOR, thickness=LINE, thickness_units="screen"
    )


def thumbnail(split: Split, index: int) -> NDArray[np.uint8]:
    """Return a small copy of an image over white, uint8 ``[h, w, 3]``, averaged over areas."""
    rgba = split.image(index)
    step = max(1, max(rgba.shape[:2]) // (4 * THUMBNAIL))  # a large photograph needs not every pixel
    small = composite_over(rgba[::step, ::step].float() / 255.0, torch.ones(3)).permute(2, 0, 1)[None]
    factor = min(1.0, THUMBNAIL / max(small.shape[2:]))
    size = [max(1, round(length * factor)) for length in small.shape[2:]]
    shrunk = torch.nn.functional.interpolate(small, size, mode="area")[0].permute(1, 2, 0)
    return to_uint8(shrunk)
