"""Whether a mesh is a closed surface, and how far it is from one; the facts come from trimesh."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nerf_metal.util.extras import require


@dataclass(frozen=True)
class MeshCheck:
    """Facts about a mesh, in the units of its vertices.

    Attributes:
        vertices: number of vertices.
        faces: number of faces.
        edges: number of edges.
        components: number of connected pieces.
        watertight: whether every edge belongs to two faces, which run along it in opposite directions.
        open_edges: number of edges that belong to one face, which are the border of a hole.
        non_manifold_edges: number of edges that belong to more than two faces, where surfaces touch.
        unsound_share: share of the edges that break the rule of `watertight` in any way.
        euler: the Euler characteristic, vertices - edges + faces.
        genus: number of handles of all pieces together; None for a mesh that is not watertight.
        volume: the enclosed volume; an estimate for a mesh that is not watertight.
        area: area of the surface.
        box: the least and the greatest corner.
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
        """Say in words whether the mesh is watertight."""
        if self.watertight:
            return f"watertight, {self.components} piece(s), {self.genus} handle(s)"
        return (
            f"not watertight: {self.open_edges} open and {self.non_manifold_edges} non-manifold edges, "
            f"{self.unsound_share:.4%} of {self.edges}"
        )


def check_mesh(vertices: NDArray[np.float64], faces: NDArray[np.int64]) -> MeshCheck:
    """Check the edges of a mesh and measure it.

    Args:
        vertices: ``[V, 3]``, each used by a face.
        faces: ``[F, 3]``, indices of vertices.

    Raises:
        InputError: trimesh is not installed.
    """
    trimesh = require("trimesh", extra="mesh", command="export")
    middle = vertices.mean(0)  # volumes about a distant origin lose digits
    mesh = trimesh.Trimesh(vertices - middle, faces, process=False)
    uses = np.bincount(mesh.edges_unique_inverse)
    # trimesh says whether two faces disagree somewhere, not how often: count the uses in either direction.
    direction = np.where(mesh.edges[:, 0] < mesh.edges[:, 1], 1, -1)
    balance = np.bincount(mesh.edges_unique_inverse, direction)
    watertight = bool(mesh.is_watertight and mesh.is_winding_consistent)
    return MeshCheck(
        vertices=len(mesh.vertices),
        faces=len(mesh.faces),
        edges=len(mesh.edges_unique),
        components=int(mesh.body_count),
        watertight=watertight,
        open_edges=int((uses == 1).sum()),
        non_manifold_edges=int((uses > 2).sum()),
        unsound_share=float(((uses != 2) | (balance != 0)).mean()),
        euler=int(mesh.euler_number),
        genus=int(mesh.body_count - mesh.euler_number // 2) if watertight else None,
        volume=float(mesh.volume),
        area=float(mesh.area),
        box=(tuple(vertices.min(0).tolist()), tuple(vertices.max(0).tolist())),
    )
