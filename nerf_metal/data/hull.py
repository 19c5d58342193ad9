"""The visual hull: the part of space that no view with an alpha channel shows as empty."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it

from nerf_metal.data.cameras import Intrinsics
from nerf_metal.data.scene import Split, spread

GRID = 64
"""Voxels along an axis for finding the tight box: it is exact to 1/64 of the scene's box."""
VIEWS = 100
"""Largest number of views that carve, evenly spaced. More views take seconds and carve almost nothing more."""
COARSEST = 16
"""Voxels along an axis at which carving starts: larger voxels would touch the object in every view."""


@torch.no_grad()
def visual_hull(split: Split, aabb: torch.Tensor, resolution: int) -> torch.Tensor:
    """Return the voxels that no view shows as empty (Laurentini, "The visual hull concept", PAMI 1994).

    A voxel is carved if the square around its projection holds only transparent pixels in some view, or if it lies in
    the image of no view. A view says nothing about what lies outside its image or behind it. Voxels of twice the size
    are carved first, so that most of space is handled in few large pieces.

    Args:
        split: the views. Nothing is carved if they have no alpha.
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
    """Count the pixels with any opacity above and left of each corner, int32 ``[H + 1, W + 1]``.

    This is a summed-area table (Crow, SIGGRAPH 1984).
    """
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
    """Return the indices of the ``voxels [N, 3]`` that stay, int64; there are ``side`` voxels along an axis."""
    size = (aabb[1] - aabb[0]) / side
    points = aabb[0] + (voxels + 0.5) * size
    radius = 0.5 * float(torch.linalg.vector_norm(size))  # of the sphere around a voxel
    index, seen = torch.arange(len(points)), torch.zeros(len(points), dtype=torch.bool)
    for camera, sums, pose in zip(cameras, opaque, c2w, strict=True):
        local = (points - pose[:3, 3]) @ pose[:3, :3]  # camera axes: x right, y up, z back
        depth = -local[:, 2]
        in_front = depth > 2.0 * radius  # the formula below is too small for nearer voxels
        depth = depth.clamp(min=2.0 * radius)
        x = camera.cx + camera.fl_x * local[:, 0] / depth
        y = camera.cy - camera.fl_y * local[:, 1] / depth
        # Half a side of the square: the sphere around the voxel, seen off the axis, and one pixel for rounding.
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
    # A square that crosses the edge of an image says nothing. If all of them do, no view shows the voxel.
    return index[seen]


def hull_box(hull: torch.Tensor, aabb: torch.Tensor) -> torch.Tensor:
    """Return the box around a visual hull, one voxel wider on each side.

    Args:
        hull: bool ``[N, N, N]`` in the order z, y, x.
        aabb: the box of the hull ``[2, 3]``, world units.

    Returns:
        The box ``[2, 3]``, world units. It is `aabb` if the hull is empty: the views contradict each other then.
    """
    places = hull.nonzero().flip(1)  # x, y, z
    if not len(places):
        return aabb
    size = (aabb[1] - aabb[0]) / hull.shape[0]
    least = aabb[0] + (places.amin(dim=0) - 1.0) * size
    greatest = aabb[0] + (places.amax(dim=0) + 2.0) * size
    return torch.stack((torch.maximum(least, aabb[0]), torch.minimum(greatest, aabb[1])))


def hull_cells(hull: torch.Tensor, aabb: torch.Tensor, box: torch.Tensor, resolution: int) -> torch.Tensor:
    """Return the cells of a box that touch a visual hull.

    Args:
        hull: bool ``[N, N, N]`` in the order z, y, x.
        aabb: the box of the hull ``[2, 3]``, world units.
        box: the box of the cells ``[2, 3]``, within `aabb`. A cell must not be larger than a voxel of the hull.
        resolution: cells along an axis.

    Returns:
        bool ``[resolution, resolution, resolution]`` in the order z, y, x: True where a cell touches the hull.
    """
    edges = torch.linspace(0.0, 1.0, resolution + 1)[:, None] * (box[1] - box[0]) + box[0]
    voxel = ((edges - aabb[0]) / (aabb[1] - aabb[0]) * hull.shape[0]).clamp(0, hull.shape[0] - 1).long()
    cells = hull
    for axis in range(3):  # a cell reaches into two voxels at most
        along = voxel[:, 2 - axis]
        cells = cells.index_select(axis, along[:-1]) | cells.index_select(axis, along[1:])
    return cells


def tight_box(split: Split, aabb: torch.Tensor) -> torch.Tensor:
    """Return the box around the visual hull, so that rays and samples are spent on the object alone.

    Args:
        split: the views.
        aabb: the box of the scene ``[2, 3]``, world units.

    Returns:
        The box ``[2, 3]``, world units; `aabb` if the views have no alpha.
    """
    return hull_box(visual_hull(split, aabb, GRID), aabb) if split.has_alpha else aabb
