"""Pictures of a mesh, made without a GPU: faces are split into pieces below a pixel, and the nearest piece is kept."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nerf_metal.data.cameras import Intrinsics, look_at, project
from nerf_metal.export.mesh import Mesh
from nerf_metal.util.pictures import to_uint8

PIECE = 0.85
"""Longest side of a piece, in pixels. The middles of such pieces leave no pixel empty; with 0.87 they would."""
NOTHING = -1
"""Index of the face at a pixel that shows none."""
CAMERA_ANGLE = 0.6
"""Angle of view in radians: small enough that perspective distorts little."""
ELEVATION = math.radians(25.0)
"""Elevation of the two cameras in radians, so that they see the sides and the top."""
SUN = 0.6
"""Share of the brightness of a face that depends on its angle to the camera."""


def picture(mesh: Mesh, *, size: int = 512, up: tuple[float, float, float] = (0.0, 0.0, 1.0)) -> NDArray[np.uint8]:
    """Draw two sides of a mesh, seen from opposite corners, with its colours above and its bare shape below.

    Args:
        mesh: the mesh to draw.
        size: width and height of one view in pixels.
        up: vector that points up in the picture, in the coordinates of the mesh.

    Returns:
        The picture, uint8 ``[2 * size, 2 * size, 3]``, on white.
    """
    points = torch.from_numpy(mesh.vertices)
    middle = (points.amin(0) + points.amax(0)) / 2
    reach = float(torch.linalg.vector_norm(points - middle, dim=-1).max())
    camera = Intrinsics.from_fov_x(CAMERA_ANGLE, size, size)
    upward = torch.tensor(up, dtype=torch.float64) / math.hypot(*up)
    # start from any direction that is not up
    side = torch.linalg.cross(upward, torch.eye(3, dtype=torch.float64)[int(upward.abs().argmin())])
    side = side / torch.linalg.vector_norm(side)
    front = torch.linalg.cross(side, upward)
    views = []
    for turn in (0.25 * math.pi, 1.25 * math.pi):
        across = math.cos(turn) * side + math.sin(turn) * front
        toward = math.cos(ELEVATION) * across + math.sin(ELEVATION) * upward
        eye = middle + toward * (reach / math.sin(0.5 * CAMERA_ANGLE))
        pixels, depth = project(look_at(eye, middle, upward).double(), camera, points)
        face, weights = visible_faces(pixels.numpy(), depth.numpy(), mesh.faces, size, size)
        corners = mesh.faces[face]
        facing = np.abs(np.einsum("hwkc,hwk,c->hw", mesh.normals[corners], weights, toward.numpy()))
        light = (1.0 - SUN + SUN * facing)[..., None]
        color = np.einsum("hwkc,hwk->hwc", mesh.colors[corners] / 255.0, weights)
        seen = (face != NOTHING)[..., None]
        views.append([np.where(seen, shown, 1.0) for shown in (color, np.broadcast_to(0.8 * light, color.shape))])
    whole = np.concatenate([np.concatenate(row, axis=1) for row in zip(*views, strict=True)])
    return to_uint8(whole)


def visible_faces(
    pixels: NDArray[Any], depth: NDArray[Any], faces: NDArray[np.int64], width: int, height: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Find the nearest face at every pixel.

    Args:
        pixels: positions of the vertices ``[V, 2]``, x and y; (0, 0) is the centre of the top left pixel.
        depth: depths of the vertices ``[V]``; faces that reach behind the camera are left out.
        faces: indices of vertices ``[F, 3]``.
        width: width of the picture.
        height: height of the picture.

    Returns:
        Indices of faces ``[H, W]``, `NOTHING` where there is none, and the weights of their corners ``[H, W, 3]``.
    """
    corners = pixels[faces]
    longest = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=-1).max(-1)
    in_front = (depth[faces] > 0).all(-1)
    pieces = np.ceil(np.maximum(longest / PIECE, 1.0))
    places, distances, owners, shares = [], [], [], []
    for n in np.unique(pieces[in_front]):
        group = np.flatnonzero(in_front & (pieces == n))
        weights = _centres(int(n))
        xy = np.rint(np.einsum("fkc,pk->fpc", corners[group], weights)).astype(np.int64)
        inside = ((xy >= 0) & (xy < (width, height))).all(-1)
        owner, piece = inside.nonzero()
        places.append(xy[inside] @ (1, width))
        distances.append((depth[faces[group]] @ weights.T)[inside])
        owners.append(group[owner])
        shares.append(weights[piece])
    face = np.full(width * height, NOTHING)
    share = np.zeros((width * height, 3))
    if places:
        order = np.argsort(-np.concatenate(distances), kind="stable")  # the nearest is written last and stays
        place = np.concatenate(places)[order]
        face[place], share[place] = np.concatenate(owners)[order], np.concatenate(shares)[order]
    return face.reshape(height, width), share.reshape(height, width, 3)


def _centres(n: int) -> NDArray[np.float64]:
    """Return the barycentric coordinates ``[n^2, 3]`` of the middles of pieces, for sides split into ``n``."""
    i, j = np.meshgrid(np.arange(n), np.arange(n), indexing="ij")
    up = np.stack((i, j), -1)[i + j < n] + 1.0 / 3.0
    down = np.stack((i, j), -1)[i + j < n - 1] + 2.0 / 3.0
    ij = np.concatenate((up, down)) / n
    return np.concatenate((ij, 1.0 - ij.sum(-1, keepdims=True)), -1)
