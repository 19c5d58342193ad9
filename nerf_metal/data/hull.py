"""The visual hull: where all views with an alpha channel agree that something may be."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it

from nerf_metal.data.cameras import Intrinsics
from nerf_metal.data.scene import Split, spread

GRID = 64
"""Voxels along an axis of the scene's box from which the tight one is found: good to 1/64."""
VIEWS = 100
"""Most views that carve, evenly spaced over the images: more take seconds and carve next to nothing more."""
COARSEST = 16
"""Voxels along an axis that carving begins with: the largest that still miss an object in some view."""


@torch.no_grad()
def visual_hull(split: Split, aabb: torch.Tensor, resolution: int) -> torch.Tensor:
    """Voxels that no view sees as empty (Laurentini, PAMI 1994).

    A voxel is carved where the square around its projection holds only transparent pixels in some view, or where no
    view has it in its frame; a view says nothing of what lies outside its frame or behind it. Voxels of twice the size
    are carved first, so that most of space is looked at in few large pieces.

    Args:
        split: images; without alpha nothing is carved.
        aabb: the box ``[2, 3]``, world units.
        resolution: voxels along an axis.

    Returns:
        bool ``[resolution, resolution, resolution]`` in the order z, y, x: False where nothing can be.
    """
    if not split.has_alpha:
        return torch.ones((resolution,) * 3, dtype=torch.bool)
    views = spread(len(split), VIEWS)
    opaque = [_opaque_before(split.image(view)) for view in views]
    cameras = [split.camera(view) for view in views]
    side = resolution
    while side % 2 == 0 and side > COARSEST:
        side //= 2
    voxels = torch.arange(side).repeat(3, 1)
    voxels = torch.cartesian_prod(*voxels)  # [N, 3] x, y, z
    while True:
        voxels = voxels[_carve(cameras, opaque, split.c2w[views], aabb, voxels, side)]
        if side == resolution:
            break
        side *= 2
        halves = torch.cartesian_prod(*torch.arange(2).repeat(3, 1))
        voxels = (2 * voxels[:, None] + halves).view(-1, 3)
    hull = torch.zeros((resolution,) * 3, dtype=torch.bool)
    hull[voxels[:, 2], voxels[:, 1], voxels[:, 0]] = True
    return hull


def _opaque_before(image: torch.Tensor) -> torch.Tensor:
    """Pixels with any opacity above and left of each corner, int32 ``[H + 1, W + 1]`` (Crow, SIGGRAPH 1984)."""
    sums = (image[:, :, 3] > 0).cumsum(0, dtype=torch.int32).cumsum(1, dtype=torch.int32)
    return F.pad(sums, (1, 0, 1, 0))


def _carve(
    cameras: list[Intrinsics],
    opaque: list[torch.Tensor],
    c2w: torch.Tensor,
    aabb: torch.Tensor,
    voxels: torch.Tensor,
    side: int,
) -> torch.Tensor:
    """Which of ``voxels [N, 3]``, of ``side`` along an axis, stay: their indices."""
    size = (aabb[1] - aabb[0]) / side
    points = aabb[0] + (voxels + 0.5) * size
    radius = 0.5 * float(torch.linalg.vector_norm(size))  # of the sphere around a voxel
    index, seen = torch.arange(len(points)), torch.zeros(len(points), dtype=torch.bool)
    for camera, sums, pose in zip(cameras, opaque, c2w, strict=True):
        local = (points - pose[:3, 3]) @ pose[:3, :3]  # camera axes: x right, y up, z back
        depth = -local[:, 2]
        in_front = depth > 2.0 * radius  # nearer, its picture is larger than the formula below says
        depth = depth.clamp(min=2.0 * radius)
        x = camera.cx + camera.fl_x * local[:, 0] / depth
        y = camera.cy - camera.fl_y * local[:, 1] / depth
        # Half the square: the sphere's, seen off the axis, and one pixel for those that are partly in it.
        reach_x = 1.0 + camera.fl_x * radius / (depth - radius) * (1.0 + (local[:, 0] / depth).abs())
        reach_y = 1.0 + camera.fl_y * radius / (depth - radius) * (1.0 + (local[:, 1] / depth).abs())
        left, right = (x - reach_x).floor(), (x + reach_x).ceil()
        top, bottom = (y - reach_y).floor(), (y + reach_y).ceil()
        inside = in_front & (left >= 0) & (right <= camera.width) & (top >= 0) & (bottom <= camera.height)
        left, right = (v.clamp(0, camera.width).long() for v in (left, right))
        top, bottom = (v.clamp(0, camera.height).long() for v in (top, bottom))
        count = sums[bottom, right] - sums[bottom, left] - sums[top, right] + sums[top, left]
        keep = ~inside | (count > 0)
        points, seen, index = points[keep], (seen | inside)[keep], index[keep]
    # Squares that reach over a frame's edge say nothing; where all do, the voxel is in no view.
    return index[seen]


def hull_box(hull: torch.Tensor, aabb: torch.Tensor) -> torch.Tensor:
    """The box ``[2, 3]`` around a hull of ``aabb``, one voxel wider; ``aabb`` itself where the hull is empty: the views
    contradict each other, and there is no hull to trust.
    """
    places = hull.nonzero().flip(1)  # x, y, z
    if not len(places):
        return aabb
    size = (aabb[1] - aabb[0]) / hull.shape[0]
    least = aabb[0] + (places.amin(dim=0) - 1.0) * size
    greatest = aabb[0] + (places.amax(dim=0) + 2.0) * size
    return torch.stack((torch.maximum(least, aabb[0]), torch.minimum(greatest, aabb[1])))


def hull_cells(hull: torch.Tensor, aabb: torch.Tensor, box: torch.Tensor, resolution: int) -> torch.Tensor:
    """Which cells of a box within ``aabb`` touch a hull of ``aabb``.

    Args:
        hull: bool ``[N, N, N]`` in the order z, y, x.
        aabb: the hull's box ``[2, 3]``.
        box: the cells' box ``[2, 3]``; its cells are no larger than the hull's voxels.
        resolution: cells along an axis.

    Returns:
        bool ``[resolution, resolution, resolution]`` in the order z, y, x.
    """
    edges = torch.linspace(0.0, 1.0, resolution + 1)[:, None] * (box[1] - box[0]) + box[0]
    voxel = ((edges - aabb[0]) / (aabb[1] - aabb[0]) * hull.shape[0]).clamp(0, hull.shape[0] - 1).long()
    cells = hull
    for axis in range(3):  # a cell reaches from one voxel into the next, at most
        along = voxel[:, 2 - axis]
        cells = cells.index_select(axis, along[:-1]) | cells.index_select(axis, along[1:])
    return cells


def tight_box(split: Split, aabb: torch.Tensor) -> torch.Tensor:
    """The box around the visual hull. Samples and rays are then spent on the object alone: fewer rays hit the box, and
    those that do cross less of it.

    Args:
        split: images with alpha; without, the box is returned as it is.
        aabb: the scene's box ``[2, 3]``.
    """
    return hull_box(visual_hull(split, aabb, GRID), aabb) if split.has_alpha else aabb
