"""A small ray tracer in numpy, which renders the built-in scene.

Light comes from lamps at infinity: the sun is a few lamps within its disc, the sky is many lamps. Each lamp has an
orthographic depth map, which gives its shadows. Soft shadows and dark corners come from this one mechanism, and the
light on a point does not depend on the camera.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nerf_metal.data.toy.solids import Array, Solid, corners

NOTHING = -1  # index for a ray that hits no solid


def trace_grid(
    solids: Sequence[Solid], columns: Array, rows: Array, o: Array, d: Array
) -> tuple[Array, NDArray[np.int16]]:
    """Find the first hits of a grid of rays. Each solid is tested only against the rays around its projection.

    Args:
        solids: the ``S`` solids.
        columns: grid columns of the projected `corners` of the solids, float32 ``[S, 8]``.
        rows: grid rows of the projected corners, float32 ``[S, 8]``.
        o: origins, float32 ``[3, H, W]``, or ``[3, 1, 1]`` for one origin.
        d: unit directions, float32 ``[3, H, W]``, or ``[3, 1, 1]`` for one direction.

    Returns:
        Distance, float32 ``[H, W]`` (infinity for no hit), and index of the solid, int16 ``[H, W]`` (`NOTHING` for no
        hit).
    """
    height, width = max(o.shape[1], d.shape[1]), max(o.shape[2], d.shape[2])
    nearest = np.full((height, width), np.inf, dtype=np.float32)
    index = np.full((height, width), NOTHING, dtype=np.int16)
    x0, x1 = (
        np.floor(columns.min(axis=1)) - 1,
        np.ceil(columns.max(axis=1)) + 2,
    )  # a ray's margin for rounding
    y0, y1 = np.floor(rows.min(axis=1)) - 1, np.ceil(rows.max(axis=1)) + 2
    xs = np.clip(np.stack([x0, x1]), 0, width).astype(int)
    ys = np.clip(np.stack([y0, y1]), 0, height).astype(int)
    for i, solid in enumerate(solids):
        window = (slice(ys[0, i], ys[1, i]), slice(xs[0, i], xs[1, i]))
        part = nearest[window]
        if part.size == 0:
            continue
        t = solid.hit(*(v if v.shape[1] == 1 else v[:, window[0], window[1]] for v in (o, d)))
        closer = t < part
        np.copyto(part, t, where=closer)
        np.copyto(index[window], np.int16(i), where=closer)
    return nearest, index


def trace_any(solids: Sequence[Solid], o: Array, d: Array) -> tuple[Array, NDArray[np.int16]]:
    """Find the first hits of single rays by testing every solid against every ray.

    Args:
        solids: the solids.
        o: origins, float32 ``[3, K]``.
        d: unit directions, float32 ``[3, K]``.

    Returns:
        Distance, float32 ``[K]`` (infinity for no hit), and index of the solid, int16 ``[K]`` (`NOTHING` for no hit).
    """
    nearest = np.full(o.shape[1], np.inf, dtype=np.float32)
    index = np.full(o.shape[1], NOTHING, dtype=np.int16)
    for i, solid in enumerate(solids):
        t = solid.hit(o, d)
        closer = t < nearest
        nearest[closer] = t[closer]
        index[closer] = i
    return nearest, index


def normals_at(solids: Sequence[Solid], index: NDArray[np.int16], p: Array) -> Array:
    """Return the outward unit normals, float32 ``[3, K]``, at the points ``p [3, K]`` on the solids ``index [K]``."""
    normal = np.empty_like(p)
    order = np.argsort(index, kind="stable")
    starts = np.searchsorted(index[order], np.arange(len(solids) + 1))
    for i, solid in enumerate(solids):
        here = order[starts[i] : starts[i + 1]]
        if here.size:
            normal[:, here] = solid.normal(p[:, here])
    return normal


class Lamp:
    """A lamp at infinity, with a depth map that tells which points its light reaches."""

    def __init__(self, solids: Sequence[Solid], toward: Array, radiance: Array, texel: float) -> None:
        """Trace the depth map.

        Args:
            solids: the solids that cast shadows.
            toward: unit vector ``[3]`` towards the lamp.
            radiance: linear RGB ``[3]`` that a white surface facing the lamp reflects.
            texel: size of a pixel of the depth map, world units.
        """
        self.toward, self.radiance = toward, radiance
        helper = np.eye(3, dtype=np.float32)[np.abs(toward).argmin()]
        right = np.cross(helper, toward)
        right /= np.sqrt((right * right).sum())
        # Rows: right and up in texels, then the distance towards the lamp in world units.
        self._axes = np.stack([right, np.cross(toward, right), toward]).astype(np.float32)
        self._axes[:2] /= np.float32(texel)
        u, v, w = np.tensordot(self._axes, corners(solids), axes=1)
        self._origin = np.array([u.min() - 2.0, v.min() - 2.0], dtype=np.float32)
        size = np.ceil([v.max() - self._origin[1] + 3.0, u.max() - self._origin[0] + 3.0]).astype(int)
        self._top = np.float32(w.max() + 1.0)
        rows, columns = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in size), indexing="ij")
        along = np.float32(texel * texel)  # an axis in texels times this has the length of one texel in world units
        start = (
            (columns + self._origin[0]) * along * self._axes[0][:, None, None]
            + (rows + self._origin[1]) * along * self._axes[1][:, None, None]
            + self._top * toward[:, None, None]
        )
        depth, _ = trace_grid(solids, u - self._origin[0], v - self._origin[1], start, -toward[:, None, None])
        self._height = self._top - depth
        # Points are lifted off their own surface by this before the look-up. The depth of a steep surface changes by
        # about two texels within one; a smaller lift would draw stripes on it.
        self._lift = np.float32(2.0 * texel)

    def shine(self, p: Array, normal: Array) -> Array:
        """Return the cosine of incidence at points ``p [3, K]`` that the light reaches, and 0 elsewhere: ``[K]``."""
        cosine: Array = np.maximum(self.toward @ normal, 0.0)
        u, v, w = self._axes @ (p + self._lift * normal)
        column = np.clip(np.rint(u - self._origin[0]), 0, self._height.shape[1] - 1).astype(np.intp)
        row = np.clip(np.rint(v - self._origin[1]), 0, self._height.shape[0] - 1).astype(np.intp)
        reached = self._height[row, column] <= w + self._lift
        return np.where(reached, cosine, np.float32(0.0))


def fibonacci_sphere(count: int) -> Array:
    """Return evenly spread unit vectors, float32 ``[count, 3]`` (Gonzalez 2010, "Measurement of areas on a sphere using
    Fibonacci and latitude-longitude lattices")."""
    i = np.arange(count) + 0.5
    z = 1.0 - 2.0 * i / count
    angle = np.pi * (1.0 + np.sqrt(5.0)) * i
    radius = np.sqrt(1.0 - z * z)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), z], axis=1).astype(np.float32)
