"""Whether a mesh is a closed surface, and how far from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nerf_metal.export.mesh import pieces


@dataclass(frozen=True)
class MeshCheck:
    """What a mesh is like, in the units of its vertices.

    Attributes:
        vertices: how many.
        faces: how many.
        edges: how many.
        components: connected pieces.
        watertight: every edge belongs to two faces, which run along it in opposite directions.
        open_edges: that belong to one face: the border of a hole.
        non_manifold_edges: that belong to more than two: surfaces that touch.
        unsound_share: of the edges, both of these and those whose two faces do not agree on what is outside.
        euler: vertices - edges + faces.
        genus: handles of all pieces together; None where the mesh is not watertight.
        volume: enclosed; of a mesh that is not watertight an estimate.
        area: of the surface.
        box: least and greatest corner.
    """

    vertices: int
    faces: int
    edges: int
    components: int
    watertight: bool
    open_edges: int
    non_manifold_edges: int
    unsound_share: float
    euler: int
    genus: int | None
    volume: float
    area: float
    box: tuple[tuple[float, ...], tuple[float, ...]]

    @property
    def sentence(self) -> str:
        """Whether it is watertight, in words."""
        if self.watertight:
            return f"watertight, {self.components} piece(s), {self.genus} handle(s)"
        return (
            f"not watertight: {self.open_edges} open and {self.non_manifold_edges} non-manifold edges, "
            f"{self.unsound_share:.4%} of {self.edges}"
        )


def check_mesh(vertices: NDArray[np.float64], faces: NDArray[np.int64]) -> MeshCheck:
    """Look at every edge of a mesh: ``vertices [V, 3]``, all used, ``faces [F, 3]``."""
    count = len(vertices)
    directed = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    forward = directed[:, 0] < directed[:, 1]
    keys, index, uses = np.unique(directed.min(1) * count + directed.max(1), return_inverse=True, return_counts=True)
    balance = np.bincount(index, np.where(forward, 1, -1), len(keys))
    sound = (uses == 2) & (balance == 0)
    components = int(pieces(np.stack((keys // count, keys % count), -1), count).max()) + 1
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    cross = np.cross(b - a, c - a)
    middle = vertices.mean(0)  # about which the sum loses no digits far from the origin
    euler = count - len(keys) + len(faces)
    watertight = bool(sound.all())
    return MeshCheck(
        vertices=count,
        faces=len(faces),
        edges=len(keys),
        components=components,
        watertight=watertight,
        open_edges=int((uses == 1).sum()),
        non_manifold_edges=int((uses > 2).sum()),
        unsound_share=float((~sound).mean()),
        euler=euler,
        genus=components - euler // 2 if watertight else None,
        volume=float(np.einsum("ij,ij->i", a - middle, cross).sum() / 6.0),
        area=float(np.linalg.norm(cross, axis=-1).sum() / 2.0),
        box=(tuple(vertices.min(0).tolist()), tuple(vertices.max(0).tolist())),
    )
