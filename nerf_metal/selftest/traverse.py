"""Named rays through an occupancy grid, and their samples against the reference."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch

from nerf_metal import ops
from nerf_metal.reference import TraversedRays, pack_bits, traverse_grid
from nerf_metal.selftest.march import BOX
from nerf_metal.selftest.modes import Mode
from nerf_metal.selftest.tolerances import TRAVERSED, TRAVERSED_PER_STEP, MismatchError, require


@dataclass(frozen=True)
class TraverseCase:
    """Rays towards a grid from around it and from inside it.

    Attributes:
        grid: "blobs" of cells, "cells" set one by one, "empty" or "full".
        rays: how many; some are parallel to axes, some miss.
    """

    name: str
    rays: int = 65
    resolution: int = 16
    cascades: int = 1
    grid: str = "blobs"
    step_size: float = 0.03
    cone_angle: float = 0.0
    near: float = 0.0
    far: float = 1e10
    stratified: bool = True
    seed: int = 3
    max_samples_per_ray: int = 1024

    def rays_o_d(self) -> tuple[torch.Tensor, torch.Tensor]:
        """``rays_o``, ``rays_d`` ``[R, 3]``."""
        random = torch.Generator().manual_seed(self.rays + 1)
        o = torch.randn((self.rays, 3), generator=random) * 1.2 * 2 ** (self.cascades - 1)
        towards = torch.rand((self.rays, 3), generator=random) * 3.0 - 1.5
        d = torch.nn.functional.normalize(towards - o, dim=-1)
        d[1::9, 0] = 0.0  # along a plane
        d[2::9, 1:] = 0.0  # along an axis, either way
        d[3::9] *= 1.7  # t need not be a length
        o[4::9] = towards[4::9] * 0.3  # starts inside
        return o, d

    def bits(self) -> torch.Tensor:
        """Of the occupied cells, int32."""
        random = torch.Generator().manual_seed(self.resolution)
        side, cells = self.resolution, self.cascades * self.resolution**3
        if self.grid in ("empty", "full"):
            return pack_bits(torch.full((cells,), self.grid == "full"))
        if self.grid == "cells":
            return pack_bits(torch.rand(cells, generator=random) < 0.3)
        coarse = torch.rand((self.cascades, 1, side // 4, side // 4, side // 4), generator=random) < 0.15
        fine = torch.nn.functional.interpolate(coarse.float(), scale_factor=4)
        return pack_bits((fine.flatten() > 0) & (torch.rand(cells, generator=random) < 0.7))

    @property
    def options(self) -> dict[str, object]:
        """Of the op and of the reference."""
        names = ("resolution", "cascades", "step_size", "cone_angle", "near", "far", "stratified", "seed")
        return {name: getattr(self, name) for name in (*names, "max_samples_per_ray")}

    def run(self, mode: Mode, **options: object) -> TraversedRays:
        """The op's samples; ``options`` beside or instead of the case's own."""
        inputs = [mode.place(x) for x in (*self.rays_o_d(), BOX, self.bits())]
        with mode.active() as backend:
            return ops.traverse_grid(*inputs, backend=backend, **(self.options | options))  # type: ignore[arg-type]

    @functools.cache  # noqa: B019 - the named cases live as long as the process
    def expected(self) -> TraversedRays:
        """The float64 reference's samples."""
        o, d = self.rays_o_d()
        return traverse_grid(o.double(), d.double(), BOX.double(), self.bits(), **self.options)  # type: ignore[arg-type]


_cone = functools.partial(TraverseCase, cascades=3, cone_angle=1 / 256, step_size=0.02)
TRAVERSE_CASES = (
    *(TraverseCase(f"{rays}-rays", rays) for rays in (0, 1, 15, 16, 17, 33, 257)),
    *(TraverseCase(f"resolution-{n}", resolution=n, step_size=0.7 / n) for n in (8, 12, 32, 36, 64)),
    TraverseCase("cells-one-by-one", grid="cells"),
    TraverseCase("not-stratified", stratified=False),
    TraverseCase("empty", grid="empty"),
    TraverseCase("full", grid="full"),
    TraverseCase("steps-larger-than-cells", step_size=0.6),
    TraverseCase("steps-larger-than-the-box", step_size=7.0),
    TraverseCase("far-cut", near=1.0, far=2.0),
    TraverseCase("other-seed", seed=-(2**33) + 5),
    TraverseCase("cascades", cascades=3),
    TraverseCase("cascades-full", cascades=3, grid="full", step_size=0.1),
    TraverseCase("cascades-of-8", cascades=4, resolution=8, grid="cells"),
    TraverseCase("cascades-long-steps", cascades=3, grid="cells", step_size=0.3),  # no finest cell is larger
    _cone("cone"),
    _cone("cone-full", grid="full"),
    _cone("cone-empty", grid="empty"),
    _cone("cone-of-8", resolution=8, grid="cells"),
    TraverseCase("cone-wide", cascades=4, cone_angle=0.1, grid="cells"),
    TraverseCase("cone-one-cascade", cone_angle=0.1),  # the greatest step is the least
    TraverseCase("few-samples-a-ray", grid="full", max_samples_per_ray=7),
    _cone("few-samples-a-ray-cone", grid="full", max_samples_per_ray=7),
)


def of_ray(traversed: TraversedRays, ray: int) -> tuple[torch.Tensor, torch.Tensor]:
    """``t_starts`` and ``t_ends`` of one ray, float64."""
    start, count = traversed.packed_info[ray].tolist()
    t_starts, t_ends = (x[start : start + count].cpu().double() for x in (traversed.t_starts, traversed.t_ends))
    return t_starts, t_ends


def check_form(traversed: TraversedRays, rays: int) -> None:
    """Every ray's samples follow those of the ray before, in order, and bear its number."""
    info, index, t_starts, t_ends = traversed
    require(info.shape == (rays, 2) and info.dtype == torch.int32, "packed_info has another form")
    require(index.dtype == torch.int64, "ray_indices must be int64")
    counts = info[:, 1]
    follow = torch.equal(info[:, 0], counts.cumsum(0) - counts) and (counts >= 0).all()
    require(follow, "the rays' samples do not follow one another")
    owners = torch.arange(rays).repeat_interleave(counts)
    require(torch.equal(index, owners), "samples bear another ray's number")
    forward = t_starts.shape == t_ends.shape == index.shape and (t_ends > t_starts).all()
    require(forward, "an interval does not end behind its start")
    require((t_starts.diff() > 0)[index[1:] == index[:-1]].all(), "a ray's samples are not in order")


def compare_traversed(case: TraverseCase, got: TraversedRays) -> dict[str, float]:
    """Worst error over tolerance, of times and of decisions: where only one side has a sample, its middle must lie so
    near to a cell's border that either is right.
    """
    got = TraversedRays(*(x.cpu() for x in got))
    want = case.expected()
    check_form(got, case.rays)
    o, d = (x.double() for x in case.rays_o_d())
    worst = {"t_starts": 0.0, "t_ends": 0.0, "decisions": 0.0}
    alone = 0
    for ray in range(case.rays):
        mine, theirs = of_ray(got, ray), of_ray(want, ray)
        same = (mine[0][:, None] - theirs[0]).abs() < 0.3 * case.step_size
        # magnitude of the numbers that a place and its t are made of
        size = (1.0 + o[ray].norm() / d[ray].norm() + theirs[0].amax()) if len(theirs[0]) else torch.ones(())
        limit = size * TRAVERSED
        if case.cone_angle > 0 and case.cascades > 1:
            limit = limit + size * TRAVERSED_PER_STEP * (size / case.step_size)
        for name, a, b in zip(("t_starts", "t_ends"), mine, theirs, strict=True):
            error = (a[same.any(1)] - b[same.any(0)]).abs() / limit
            worst[name] = max([worst[name], *error.tolist()])
        for (start, end), axis in ((mine, 1), (theirs, 0)):
            for t in (0.5 * (start + end))[~same.any(axis)]:
                alone += 1
                worst["decisions"] = max(worst["decisions"], float(border_distance(case, o[ray], d[ray], t) / limit))
    require(alone <= max(2, 0.002 * len(want.t_starts)), f"{case.name}: {alone} samples of one side alone")
    if not max(worst.values()) <= 1.0:
        raise MismatchError(f"{case.name}: {worst} times the tolerance", max(worst.values()))
    return worst


def border_distance(case: TraverseCase, o: torch.Tensor, d: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """From a point of a ray to the next border of the finest cells, which are among those of all cascades and of the
    box, or to ``far``."""
    side = (BOX[1] - BOX[0]).double() / case.resolution
    place = (o + t * d - BOX[0].double()) / side
    return torch.minimum(((place - place.round()).abs() * side).amin(), (t - case.far).abs())
