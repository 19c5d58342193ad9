"""Named inputs of marching and importance sampling, shared by the tests and the benchmarks."""

from __future__ import annotations

from dataclasses import dataclass

import torch

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
        random = torch.Generator().manual_seed(self.rays + 1)
        o = torch.randn((self.rays, 3), generator=random) * 2.0
        towards = torch.rand((self.rays, 3), generator=random) * 3.0 - 1.5
        return o, torch.nn.functional.normalize(towards - o, dim=-1)

    @property
    def options(self) -> dict[str, object]:
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
