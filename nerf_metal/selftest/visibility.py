"""Named packed samples: those that light reaches are gathered, counted and copied, against the references."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch

from nerf_metal import ops
from nerf_metal.reference import RaySampleList
from nerf_metal.reference import visibility as reference
from nerf_metal.selftest.modes import Mode
from nerf_metal.selftest.tolerances import POSITION, close, product, require


class VisibilityInputs(NamedTuple):
    """Samples of rays, of which some have none and some have many; a part of them is to be chosen."""

    rays_o: torch.Tensor
    rays_d: torch.Tensor
    t_starts: torch.Tensor
    t_ends: torch.Tensor
    source_info: torch.Tensor
    target_info: torch.Tensor
    sigmas: torch.Tensor
    light: torch.Tensor
    rows: torch.Tensor

    @property
    def room(self) -> int:
        """Samples of the target, with some that are nobody's behind them."""
        return int(self.target_info[:, 1].sum()) + len(self.target_info) + 3


@dataclass(frozen=True)
class VisibilityCase:
    """Rays; light ends at ``eps``, and of each sample ``columns`` numbers are copied."""

    name: str
    rays: int
    eps: float = 1e-4
    columns: int = 3

    def build(self) -> VisibilityInputs:
        """The same numbers every time."""
        random = torch.Generator().manual_seed(self.rays)
        many = torch.randint(0, 70, (self.rays,), generator=random)
        counts = many * (torch.rand(self.rays, generator=random) < 0.8)
        source = packed(counts, torch.randint(0, 3, (self.rays,), generator=random))
        size = int(source[-1].sum()) + 2 if self.rays else 0
        t_starts = torch.rand(size, generator=random) * 3 + 2
        t_ends = t_starts + torch.rand(size, generator=random) * 0.1
        sigmas = torch.randn(size, generator=random).exp() * 4 - 1
        rays_o, rays_d = torch.randn((2, self.rays, 3), generator=random)
        # more than there are, as many, and fewer; in an order of its own
        wanted = torch.randint(0, 90, (self.rays,), generator=random)
        order = torch.randperm(self.rays, generator=random)
        target = torch.empty_like(source)
        target[order] = packed(wanted[order], 1)
        light = torch.rand(self.rays, generator=random) * 0.8 + 0.2
        rows = torch.rand((size, self.columns), generator=random)
        return VisibilityInputs(rays_o, rays_d, t_starts, t_ends, source, target, sigmas, light, rows)


def packed(counts: torch.Tensor, gaps: torch.Tensor | int = 0) -> torch.Tensor:
    """Start and count of rays that follow one another, with gaps behind them, int32 ``[R, 2]``."""
    ends = (counts + gaps).cumsum(0)
    return torch.stack((ends - counts - gaps, counts), -1).to(torch.int32)


VISIBILITY_CASES = tuple(
    VisibilityCase(f"{rays}-rays-{eps:g}-x{columns}", rays, eps, columns)
    for rays in (0, 1, 63, 64, 65, 300)
    for eps, columns in ((0.0, 1), (1e-4, 3), (0.3, 16))
)


def run_visibility(case: VisibilityCase, mode: Mode) -> dict[str, torch.Tensor]:
    """Samples gathered; how many of each ray's light reaches, and what is left of it; rows copied."""
    given = case.build()
    inputs = VisibilityInputs(*map(mode.place, given))
    out = mode.place(torch.full((given.room, case.columns), -3.0))
    times = inputs.t_starts, inputs.t_ends
    with mode.active() as backend:
        gathered = ops.visibility_gather(
            inputs.rays_o, inputs.rays_d, *times, inputs.source_info, inputs.target_info, given.room, backend=backend
        )
        counts = ops.visibility_count(
            inputs.sigmas, *times, inputs.source_info, inputs.light, early_stop_eps=case.eps, backend=backend
        )
        ops.visibility_copy(inputs.rows, inputs.source_info, inputs.target_info, out, backend=backend)
    return {**gathered._asdict(), "counts": counts, "light": inputs.light, "rows": out}


def compare_visibility(case: VisibilityCase, got: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Worst error over tolerance of places and light; the rest is the reference's to the bit."""
    got, given = {name: x.cpu() for name, x in got.items()}, case.build()
    infos = given.source_info, given.target_info
    want: RaySampleList = reference.visibility_gather(*given[:4], *infos, given.room)
    for name in ("ray_indices", "t_starts", "t_ends"):
        require(torch.equal(got[name], getattr(want, name)), f"{case.name} gathered other {name}")
    rows = torch.full((given.room, case.columns), -3.0)
    reference.visibility_copy(given.rows, *infos, rows)
    require(torch.equal(got["rows"], rows), f"{case.name} copied other rows")
    far = given.rays_o.abs().amax() + 6.0 * given.rays_d.abs().amax() if case.rays else 1.0
    ratios = {
        "positions": close(got["positions"], want.positions, "positions", POSITION * far, case.name),
        "light": 0.0,
    }
    require(got["counts"].dtype == torch.int32, f"{case.name} counts must be int32")
    for ray, (first, size) in enumerate(given.source_info.tolist()):
        span = slice(first, first + size)
        tau = given.sigmas[span].double().clamp(min=0.0) * (given.t_ends[span] - given.t_starts[span])
        light = given.light[ray].double() * torch.exp(-torch.cat((torch.zeros(1), tau.cumsum(0))))
        limit = product(size, -light.log()) * light
        reached = int(got["counts"][ray])
        last = reached == 0 or light[reached - 1] + limit[reached - 1] >= case.eps  # that is reached
        first_not = reached == size or light[reached] - limit[reached] < case.eps
        require(last and first_not, f"{case.name} ray {ray}: light reaches another number of samples than {reached}")
        ratio = close(got["light"][ray], light[reached], "light", limit[reached], case.name)
        ratios["light"] = max(ratios["light"], ratio)
    return ratios
