"""A tight box from silhouettes: where all views with an alpha channel agree that something may be."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it

from nerf_metal.data.scene import Split

GRID = 64
"""Voxels along an axis: a box good to 1/64 of the scene's; 64^3 points against 100 views take a second."""


@torch.no_grad()
def tight_box(split: Split, aabb: torch.Tensor) -> torch.Tensor:
    """The box around the visual hull (Laurentini, PAMI 1994): space that no view sees as empty.

    A voxel is carved where it projects wholly onto transparent pixels of some view, or where no view has it
    in its frame; a view says nothing of what lies outside its frame or behind it. Samples and rays are then
    spent on the object alone: fewer rays hit the box, and those that do cross less of it.

    Args:
        split: images with alpha; without, the box is returned as it is.
        aabb: the scene's box ``[2, 3]``.

    Returns:
        A box ``[2, 3]`` within ``aabb``, one voxel wider than the hull.
    """
    if not split.has_alpha:
        return aabb
    size = (aabb[1] - aabb[0]) / GRID
    axes = [aabb[0, k] + (torch.arange(GRID) + 0.5) * size[k] for k in range(3)]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, 3)
    radius = 0.5 * float(torch.linalg.vector_norm(size))  # of the sphere around a voxel
    seen = torch.zeros(len(points), dtype=torch.bool)
    camera = split.intrinsics
    for image, c2w in zip(split.images, split.c2w, strict=True):
        local = (points - c2w[:3, 3]) @ c2w[:3, :3]  # camera axes: x right, y up, z back
        distance = -local[:, 2]
        visible = distance > radius
        nearest = float(distance[visible].min()) if bool(visible.any()) else 4.0 * radius
        # A cell this wide holds a voxel's footprint together with its neighbours.
        cell = int(max(camera.fl_x, camera.fl_y) * radius / max(nearest, 4.0 * radius)) + 1
        opaque = F.max_pool2d((image[None, None, :, :, 3] > 0).float(), cell, ceil_mode=True)
        opaque = F.max_pool2d(opaque, 3, stride=1, padding=1)[0, 0]
        depth = distance.clamp(min=radius)
        x = camera.cx + camera.fl_x * local[:, 0] / depth
        y = camera.cy - camera.fl_y * local[:, 1] / depth
        inside = visible & (x >= 0) & (x < camera.width) & (y >= 0) & (y < camera.height)
        column = (x.clamp(0, camera.width - 1) / cell).long()
        row = (y.clamp(0, camera.height - 1) / cell).long()
        keep = ~inside | (opaque[row, column] > 0)
        points, seen = points[keep], (seen | inside)[keep]
    points = points[seen]
    if not len(points):
        return aabb  # the views contradict each other: no hull to trust
    least, greatest = points.amin(dim=0) - 1.5 * size, points.amax(dim=0) + 1.5 * size
    return torch.stack((torch.maximum(least, aabb[0]), torch.minimum(greatest, aabb[1])))
