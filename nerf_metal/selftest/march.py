"""Named rays through a box, and their edges against the reference."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from nerf_metal import ops
from nerf_metal.reference import RaySamples, march_rays
from nerf_metal.selftest.modes import Mode
from nerf_metal.selftest.tolerances import BOUNDS, DISPARITY, EDGES, close, require

BOX = torch.tensor([[-1.0, -0.5, -1.5], [1.0, 0.75, 1.25]])


@dataclass(frozen=True)
class MarchCase:
    """Rays towards a box from around it and from inside it; about a fifth of them pass it by."""

    name: str
    rays: int
    samples: int
    stratified: bool = False
    spacing: str = "linear"
    near: float = 0.0
    far: float = 1e10
    seed: int = 0

    def rays_o_d(self) -> tuple[torch.Tensor, torch.Tensor]:
        """``rays_o``, ``rays_d`` ``[R, 3]``."""
        random = torch.Generator().manual_seed(self.rays + 1)
        o = torch.randn((self.rays, 3), generator=random) * 2.0
        towards = torch.rand((self.rays, 3), generator=random) * 3.0 - 1.5
        return o, torch.nn.functional.normalize(towards - o, dim=-1)

    @property
    def options(self) -> dict[str, object]:
        """Of the op and of the reference."""
        return {
            "near": self.near,
            "far": self.far,
            "stratified": self.stratified,
            "seed": self.seed,
            "spacing": self.spacing,
        }


MARCH_CASES = (
    *(MarchCase(f"{rays}x{n}", rays, n) for rays, n in ((0, 4), (1, 1), (31, 2), (33, 31), (257, 64))),
    *(
        MarchCase(f"stratified-{rays}x{n}", rays, n, stratified=True, seed=5)
        for rays, n in ((1, 1), (33, 15), (31, 16), (33, 32), (257, 192))
    ),
    MarchCase("near-far", 257, 33, near=0.5, far=3.0),
    MarchCase("near-far-stratified", 257, 33, stratified=True, near=0.5, far=3.0, seed=-1),
    MarchCase("disparity", 257, 65, spacing="disparity", near=0.2, far=6.0),
    MarchCase("disparity-stratified", 257, 65, stratified=True, spacing="disparity", near=0.2, seed=2**32 + 1),
)


def run_march(case: MarchCase, mode: Mode) -> RaySamples:
    """Edges and bounds; the bounds alone, by a kernel of their own, must be the same."""
    o, d = (mode.place(x) for x in case.rays_o_d())
    box = mode.place(BOX)
    with mode.active() as backend:
        got = ops.march_rays(o, d, box, case.samples, backend=backend, **case.options)  # type: ignore[arg-type]
        bounds = ops.intersect_rays(o, d, box, near=case.near, far=case.far, backend=backend)
        for name, one, two in zip(bounds._fields, bounds, got[1:], strict=True):
            require(torch.equal(one, two), f"{case.name} {name} of intersect_rays must be that of march_rays")
    return got


def compare_march(case: MarchCase, got: RaySamples) -> dict[str, float]:
    """Worst error over tolerance; the boxes are met so that rounding decides no hit."""
    o, d = (x.double() for x in case.rays_o_d())
    want = march_rays(o, d, BOX.double(), case.samples, **case.options)  # type: ignore[arg-type]
    require(torch.equal(got.hits.cpu(), want.hits), f"{case.name} hits differ")
    magnitude = want.t_max[:, None].abs()
    tolerance = EDGES * magnitude
    if case.spacing == "disparity":
        tolerance = DISPARITY * want.t_edges * want.t_edges / want.t_min[:, None] + BOUNDS * magnitude
    # a bound's own error is relative to the numbers it is made of, (face - origin) / direction
    reach = torch.maximum(want.t_max, torch.ones_like(want.t_max))
    return {
        "t_min": close(got.t_min, want.t_min, "t_min", BOUNDS * reach, case.name),
        "t_max": close(got.t_max, want.t_max, "t_max", BOUNDS * reach, case.name),
        "t_edges": close(got.t_edges, want.t_edges, "t_edges", tolerance + BOUNDS * reach[:, None], case.name),
    }
