"""Named weights to draw edges by, and the draws against the reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from nerf_metal import ops
from nerf_metal.reference import sample_importance
from nerf_metal.reference.random import STREAM_IMPORTANCE, uniform
from nerf_metal.selftest.modes import Mode
from nerf_metal.selftest.tolerances import CDF_BASE, CDF_PER_INTERVAL, DRAWN, EPS, close, require

FLOOR = 1e-5
"""What the op adds to every weight."""


@dataclass(frozen=True)
class ImportanceCase:
    """Weights of some kind over edges that only grow; ``edges`` "repeated" has intervals of no length."""

    name: str
    rays: int
    intervals: int
    num_samples: int
    weights: str = "ordinary"
    edges: str = "random"
    stratified: bool = False
    seed: int = 0

    def build(self) -> tuple[torch.Tensor, torch.Tensor]:
        """``t_edges`` and ``weights``."""
        random = torch.Generator().manual_seed(self.rays + 10 * self.intervals)
        gaps = 0.2 + torch.rand((self.rays, self.intervals + 1), generator=random)
        if self.edges == "repeated":
            gaps[:, ::3] = 0.0
        edges = 1.0 + gaps.cumsum(-1) * (4.0 / (self.intervals + 1))
        u = torch.rand((self.rays, self.intervals), generator=random)
        kinds = {
            "ordinary": 0.2 + u,
            "zero": torch.zeros_like(u),
            "spike": torch.where(u == u.amax(-1, keepdim=True), 1.0, torch.zeros_like(u)),
            "first": torch.nn.functional.pad(torch.ones_like(u[:, :1]), (0, self.intervals - 1)),
            "last": torch.nn.functional.pad(torch.ones_like(u[:, :1]), (self.intervals - 1, 0)),
            "negative": u - 0.5,
            "denormal": u * 1e-40,
            "huge": u * 1e30,
        }
        return edges, kinds[self.weights]


IMPORTANCE_CASES = (
    *(
        ImportanceCase(f"{rays}x{s}+{n}", rays, s, n)
        for rays, s, n in ((0, 4, 4), (1, 1, 1), (1, 2, 1), (31, 1, 33), (33, 33, 1), (257, 64, 128))
    ),
    *(
        ImportanceCase(f"{kind}-weights", 33, 65, 64, weights=kind)
        for kind in ("zero", "spike", "first", "last", "negative", "denormal", "huge")
    ),
    ImportanceCase("stratified", 257, 64, 65, stratified=True, seed=5),
    ImportanceCase("stratified-spike", 33, 31, 32, weights="spike", stratified=True, seed=-3),
    ImportanceCase("stratified-other-seed", 33, 31, 32, stratified=True, seed=2**32 + 9),
    ImportanceCase("repeated-edges", 33, 65, 64, edges="repeated"),
    ImportanceCase("repeated-edges-spike", 33, 65, 64, weights="spike", edges="repeated", stratified=True),
)


def run_importance(case: ImportanceCase, mode: Mode) -> dict[str, torch.Tensor]:
    """The draws alone, and merged with the edges."""
    edges, weights = (mode.place(x) for x in case.build())
    with mode.active() as backend:

        def sample(merge: bool) -> torch.Tensor:
            return ops.sample_importance(
                edges,
                weights,
                case.num_samples,
                stratified=case.stratified,
                seed=case.seed,
                weight_floor=FLOOR,
                merge=merge,
                backend=backend,
            )

        return {"drawn": sample(False), "merged": sample(True)}


def cdf_distance(case: ImportanceCase, drawn: torch.Tensor) -> torch.Tensor:
    """How far the mass below each draw is from the mass it was drawn for, as a share of the whole.

    ``t`` is ill-conditioned where the density is at its floor; the mass below it is not. A draw may stand for any mass
    between those below and up to it, rounding of ``t`` included: where an interval has no length they differ.
    """
    edges, weights = (x.double() for x in case.build())
    mass = weights.clamp(min=0) + FLOOR
    cdf = torch.nn.functional.pad(mass.cumsum(-1), (1, 0))
    total = cdf[:, -1:]
    jitter = torch.full((1, case.num_samples), 0.5, dtype=torch.float64)
    if case.stratified:
        device = torch.device("cpu")
        jitter = uniform(case.rays, case.num_samples, case.seed, STREAM_IMPORTANCE, device)
    target = (torch.arange(case.num_samples) + jitter) / case.num_samples
    t = drawn.double()

    def mass_below(at: torch.Tensor, inclusive: bool) -> torch.Tensor:
        length = edges.diff(dim=-1)[:, None]
        into = (at[..., None] - edges[:, None, :-1]) / length.clamp(min=1e-300)
        jump = (at[..., None] >= edges[:, None, :-1]) if inclusive else (at[..., None] > edges[:, None, :-1])
        into = torch.where(length > 0, into.clamp(0, 1), jump.double())
        return (into * mass[:, None]).sum(-1) / total

    least = mass_below(t * (1 - 2 * EPS), inclusive=False)
    most = mass_below(t * (1 + 2 * EPS), inclusive=True)
    return torch.maximum(least - target, target - most).clamp(min=0.0)


def compare_importance(case: ImportanceCase, got: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Worst error over tolerance, in mass for all cases and in ``t`` for the well-conditioned ones."""
    edges, weights = case.build()
    drawn, merged = got["drawn"].cpu(), got["merged"].cpu()
    union = torch.cat((edges, drawn), -1).sort(-1).values
    require(torch.equal(merged, union), f"{case.name} merged edges must be the sorted union")
    inside = (drawn >= edges[:, :1]) & (drawn <= edges[:, -1:])
    require(inside.all(), f"{case.name} draws must lie between the first edge and the last")
    distance = cdf_distance(case, drawn)
    limit = CDF_BASE + CDF_PER_INTERVAL * case.intervals
    ratios = {"mass": close(distance, torch.zeros_like(distance), "mass", limit, case.name)}
    if case.weights == "ordinary" and case.edges == "random":
        how = edges.double(), weights.double(), case.num_samples
        want = sample_importance(*how, stratified=case.stratified, seed=case.seed, merge=False)
        ratios["t"] = close(drawn, want, "t", DRAWN * edges[:, -1:].double(), case.name)
    return ratios
