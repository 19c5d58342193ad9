"""Solids of the built-in scene and their intersections with rays, in numpy.

The solids are boxes, capped cones (a cylinder is a cone with equal radii) and balls. Vectors have their components
first, ``[3, ...]``: numpy is several times faster on three planes than on triples. Everything is float32 and in world
units. Rays (origin `o`, unit direction `d`) start outside all solids.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
_TINY = np.float32(1e-9)  # replaces a zero component of a direction, so that divisions stay finite


@dataclass(frozen=True)
class Material:
    """The material of a surface: linear RGB albedo in [0, 1], and the share of mirrored light in [0, 1]."""

    albedo: tuple[float, float, float]
    mirror: float = 0.0


@dataclass(frozen=True)
class Box:
    """An axis-aligned box between its corners `low` and `high`."""

    low: tuple[float, float, float]
    high: tuple[float, float, float]
    material: Material

    def bounds(self) -> Array:
        """Return the corners of the bounding box, ``[2, 3]``, least corner first."""
        return np.array([self.low, self.high], dtype=np.float32)

    def hit(self, o: Array, d: Array) -> Array:
        """Return the distance to the first hit, infinity for none (slab method, Kay and Kajiya, SIGGRAPH 1986)."""
        enter, leave = np.float32(-np.inf), np.float32(np.inf)
        for axis in range(3):
            inverse = 1.0 / np.where(np.abs(d[axis]) < _TINY, _TINY, d[axis])
            t0 = (np.float32(self.low[axis]) - o[axis]) * inverse
            t1 = (np.float32(self.high[axis]) - o[axis]) * inverse
            enter = np.maximum(enter, np.minimum(t0, t1))
            leave = np.minimum(leave, np.maximum(t0, t1))
        return np.where((enter <= leave) & (enter > 0.0), enter, np.float32(np.inf))

    def normal(self, p: Array) -> Array:
        """Return the outward unit normals, ``[3, K]``, at surface points ``p [3, K]``."""
        low, high = self.bounds()[:, :, None]
        local = (2.0 * p - low - high) / (high - low)
        axis = np.abs(local).argmax(axis=0)
        normal = np.zeros_like(p)
        k = np.arange(p.shape[1])
        normal[axis, k] = np.sign(local[axis, k])
        return normal


@dataclass(frozen=True)
class Cone:
    """A capped cone from `start` to `end`. It is a cylinder if both radii are equal."""

    start: tuple[float, float, float]
    end: tuple[float, float, float]
    radius_start: float
    radius_end: float
    material: Material

    def _frame(self) -> tuple[Array, Array, np.float32, np.float32]:
        """Return the start, the unit axis, the length, and the growth of the radius per length."""
        start = np.array(self.start, dtype=np.float32)
        along = np.array(self.end, dtype=np.float32) - start
        length = np.float32(np.sqrt((along * along).sum()))
        return start, along / length, length, np.float32(self.radius_end - self.radius_start) / length

    def bounds(self) -> Array:
        """Return the corners of the bounding box, ``[2, 3]``, least corner first."""
        start, axis, length, _ = self._frame()
        reach = np.sqrt(np.maximum(0.0, 1.0 - axis * axis))
        ends = np.stack([start, start + length * axis])
        radii = np.array([[self.radius_start], [self.radius_end]], dtype=np.float32)
        return np.stack([(ends - radii * reach).min(axis=0), (ends + radii * reach).max(axis=0)])

    def hit(self, o: Array, d: Array) -> Array:
        """Return the distance to the first hit, infinity for none.

        With ``s = (o + t d - start) . axis`` and the radius ``r(s) = r0 + k s``, the side solves
        ``|perpendicular part|^2 = r(s)^2``, a quadratic equation in t. The near cap is a disc.
        """
        start, axis, length, k = self._frame()
        ox, oy, oz = (o[i] - start[i] for i in range(3))
        s = ox * axis[0] + oy * axis[1] + oz * axis[2]
        ds = d[0] * axis[0] + d[1] * axis[1] + d[2] * axis[2]
        od = ox * d[0] + oy * d[1] + oz * d[2] - s * ds  # product of the perpendicular parts, as in the next two lines
        oo = ox * ox + oy * oy + oz * oz - s * s
        dd = 1.0 - ds * ds
        r = np.float32(self.radius_start) + k * s
        a = dd - (k * ds) ** 2
        a = np.where(np.abs(a) < _TINY, _TINY, a)
        b = od - k * ds * r
        discriminant = b * b - a * (oo - r * r)
        root = np.sqrt(np.maximum(discriminant, 0.0))
        best = np.where(ds > 0.0, -s, length - s) / np.where(np.abs(ds) < _TINY, _TINY, ds)
        disc = np.where(ds > 0.0, np.float32(self.radius_start), np.float32(self.radius_end)) ** 2
        on_cap = oo + best * (2.0 * od + best * dd) <= disc
        best = np.where(on_cap & (best > 0.0), best, np.float32(np.inf))
        # This one of the two roots is always the entry. It is the nearer one if the ray is flatter than the side, and
        # the farther one if the ray is steeper and first meets the mirrored cone beyond the apex.
        t = (-b - root) / a
        height = s + t * ds
        on_side = (discriminant > 0.0) & (height >= 0.0) & (height <= length) & (t > 0.0)
        return np.where(on_side, np.minimum(best, t), best)

    def normal(self, p: Array) -> Array:
        """Return the outward unit normals, ``[3, K]``, at surface points ``p [3, K]``."""
        start, axis, length, k = self._frame()
        from_start = p - start[:, None]
        s = axis @ from_start
        radial = from_start - s * axis[:, None]
        radius = np.sqrt((radial * radial).sum(axis=0))
        side = radial / np.maximum(radius, _TINY) - k * axis[:, None]
        side /= np.sqrt((side * side).sum(axis=0))
        off_side = np.abs(radius - self.radius_start - k * s)
        off_cap = np.minimum(np.abs(s), np.abs(length - s))
        cap = np.where(s > 0.5 * length, axis[:, None], -axis[:, None])
        return np.where(off_cap < off_side, cap, side)


@dataclass(frozen=True)
class Ball:
    """A ball with a center and a radius."""

    center: tuple[float, float, float]
    radius: float
    material: Material

    def bounds(self) -> Array:
        """Return the corners of the bounding box, ``[2, 3]``, least corner first."""
        center = np.array(self.center, dtype=np.float32)
        return np.stack([center - np.float32(self.radius), center + np.float32(self.radius)])

    def hit(self, o: Array, d: Array) -> Array:
        """Return the distance to the first hit, infinity for none."""
        ox, oy, oz = (o[i] - np.float32(self.center[i]) for i in range(3))
        b = ox * d[0] + oy * d[1] + oz * d[2]
        # This form of the squared distance of the line from the centre loses fewer digits than |o|^2 - b^2.
        px, py, pz = ox - b * d[0], oy - b * d[1], oz - b * d[2]
        discriminant = np.float32(self.radius) ** 2 - (px * px + py * py + pz * pz)
        t = -b - np.sqrt(np.maximum(discriminant, 0.0))
        return np.where((discriminant > 0.0) & (t > 0.0), t, np.float32(np.inf))

    def normal(self, p: Array) -> Array:
        """Return the outward unit normals, ``[3, K]``, at surface points ``p [3, K]``."""
        return (p - np.array(self.center, dtype=np.float32)[:, None]) / np.float32(self.radius)


Solid = Box | Cone | Ball


def corners(solids: Sequence[Solid]) -> Array:
    """Return the eight corners of the bounding box of each solid, float32 ``[3, S, 8]``."""
    bounds = np.stack([solid.bounds() for solid in solids])
    picks = np.array([[i >> 2 & 1, i >> 1 & 1, i & 1] for i in range(8)])
    return np.ascontiguousarray(bounds[:, picks, np.arange(3)].transpose(2, 0, 1))
