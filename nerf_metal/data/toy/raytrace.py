"""A small ray tracer in numpy; it makes the embedded scene.

Light comes from lamps at infinity: the sun is a few lamps within its disc, the sky many. Each casts the
shadow that its own orthographic depth map says, so soft shadows and the darkening of corners come from one
mechanism, and a point's shade does not depend on who looks at it.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nerf_metal.data.toy.solids import Array, Solid, corners

NOTHING = -1  # index of the solid where a ray hits none


def trace_grid(
    solids: Sequence[Solid], columns: Array, rows: Array, o: Array, d: Array
) -> tuple[Array, NDArray[np.int16]]:
    """First hits of a grid of rays, each solid tested only against the rays around its projection.

    Args:
        solids: what may be hit.
        columns: ``[S, 8]``, the grid columns that the solids' `corners` project to.
        rows: ``[S, 8]``, the grid rows.
        o: origins, ``[3, H, W]`` or ``[3, 1, 1]`` if shared.
        d: unit directions, ``[3, H, W]`` or ``[3, 1, 1]`` if shared.

    Returns:
        Distance ``[H, W]`` (infinity for none) and index of the solid ``[H, W]`` (`NOTHING` for none).
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
    """First hits of loose rays ``[3, K]``, every solid against every ray: distance and index ``[K]``."""
    nearest = np.full(o.shape[1], np.inf, dtype=np.float32)
    index = np.full(o.shape[1], NOTHING, dtype=np.int16)
    for i, solid in enumerate(solids):
        t = solid.hit(o, d)
        closer = t < nearest
        nearest[closer] = t[closer]
        index[closer] = i
    return nearest, index


def normals_at(solids: Sequence[Solid], index: NDArray[np.int16], p: Array) -> Array:
    """Unit normals ``[3, K]`` at points ``[3, K]`` on the solids ``index [K]``."""
    normal = np.empty_like(p)
    order = np.argsort(index, kind="stable")
    starts = np.searchsorted(index[order], np.arange(len(solids) + 1))
    for i, solid in enumerate(solids):
        here = order[starts[i] : starts[i + 1]]
        if here.size:
            normal[:, here] = solid.normal(p[:, here])
    return normal


class Lamp:
    """A lamp at infinity, with the depth map that says which points it reaches."""

    def __init__(self, solids: Sequence[Solid], toward: Array, radiance: Array, texel: float) -> None:
        """Trace the depth map.

        Args:
            solids: what casts shadows.
            toward: unit vector ``[3]`` towards the lamp.
            radiance: linear RGB ``[3]``, what a white surface that faces the lamp sends back.
            texel: the depth map's grain in world units.
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
        along = np.float32(texel * texel)  # an axis in texels times this is one texel in the world
        start = (
            (columns + self._origin[0]) * along * self._axes[0][:, None, None]
            + (rows + self._origin[1]) * along * self._axes[1][:, None, None]
            + self._top * toward[:, None, None]
        )
        depth, _ = trace_grid(solids, u - self._origin[0], v - self._origin[1], start, -toward[:, None, None])
        self._height = self._top - depth
        # A point is lifted off its own surface by this before the look-up: steep surfaces change by about two
        # texels within one, and anything less draws stripes on them.
        self._lift = np.float32(2.0 * texel)

    def shine(self, p: Array, normal: Array) -> Array:
        """Cosine of incidence where the lamp reaches the points ``[3, K]``, zero elsewhere: ``[K]``."""
        cosine: Array = np.maximum(self.toward @ normal, 0.0)
        u, v, w = self._axes @ (p + self._lift * normal)
        column = np.clip(np.rint(u - self._origin[0]), 0, self._height.shape[1] - 1).astype(np.intp)
        row = np.clip(np.rint(v - self._origin[1]), 0, self._height.shape[0] - 1).astype(np.intp)
        reached = self._height[row, column] <= w + self._lift
        return np.where(reached, cosine, np.float32(0.0))


def fibonacci_sphere(count: int) -> Array:
    """Evenly spread unit vectors ``[count, 3]`` (Gonzalez 2010, "Measurement of areas on a sphere")."""
    i = np.arange(count) + 0.5
    z = 1.0 - 2.0 * i / count
    angle = np.pi * (1.0 + np.sqrt(5.0)) * i
    radius = np.sqrt(1.0 - z * z)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), z], axis=1).astype(np.float32)
