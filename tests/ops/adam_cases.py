"""Named steps of Adam, shared by its tests."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch

BETA1, BETA2, EPSILON = 0.9, 0.99, 1e-15


@dataclass
class Table:
    """What a step works on."""

    param: torch.Tensor
    grad: torch.Tensor
    exp_avg: torch.Tensor
    exp_avg_sq: torch.Tensor
    half_copy: torch.Tensor | None = None

    def each(self) -> list[torch.Tensor | None]:
        """In the kernel's order."""
        return [getattr(self, field.name) for field in fields(self)]

    def copy(self, *, wide: bool = False, device: str = "cpu") -> Table:
        """A table of its own; ``wide`` in float64, the half copy aside."""
        half = None if self.half_copy is None else self.half_copy.to(device, copy=True)
        rest = [x.to(device, torch.float64 if wide else x.dtype, copy=True) for x in self.each()[:4] if x is not None]
        return Table(*rest, half)


@dataclass(frozen=True)
class AdamCase:
    """Numbers of some kind; of the gradients a share, in runs of ``run``, is not 0."""

    name: str
    count: int
    share: float = 1.0
    run: int = 1
    sparse: bool = True
    step: int = 3
    lr: float = 0.01
    clear_grad: bool = True
    half: bool = False
    scale: float = 1.0
    beta1: float = BETA1
    eps: float = EPSILON

    def build(self) -> Table:
        random = torch.Generator().manual_seed(self.count + 7)
        param, grad, exp_avg = torch.randn((3, self.count), generator=random)
        exp_avg_sq = torch.rand(self.count, generator=random)
        drawn = torch.rand(-(-self.count // self.run), generator=random).repeat_interleave(self.run)[: self.count]
        signed_zero = torch.where(grad < 0, -0.0, 0.0)
        grad = torch.where(drawn < self.share, grad * self.scale, signed_zero)
        if self.step == 1:
            exp_avg, exp_avg_sq = torch.zeros(2, self.count)
        moments = exp_avg * self.scale, exp_avg_sq * self.scale * self.scale
        return Table(param.clone(), grad, *moments, param.flip(0).half() if self.half else None)

    @property
    def options(self) -> dict[str, float | int | bool]:
        names = ("step", "lr", "beta1", "eps", "sparse", "clear_grad")
        return {"beta2": BETA2} | {name: getattr(self, name) for name in names}


ADAM_CASES = (
    *(AdamCase(f"{n}", n, step=1) for n in (0, 1, 3, 4, 5, 31, 32, 33, 64, 2047, 2048, 2049, 4096, 4097, 10000)),
    *(AdamCase(f"share-{s}-runs-{run}", 9001, s, run) for s in (0.0, 0.01, 0.5) for run in (1, 2, 32, 50, 3000)),
    *(AdamCase(f"dense-{n}", n, 0.3, sparse=False, half=True) for n in (1, 31, 32, 33, 4099)),
    AdamCase("half", 4099, 0.3, half=True),
    AdamCase("half-runs", 9001, 0.02, 8, half=True, clear_grad=False),
    AdamCase("kept", 300, 0.5, clear_grad=False),
    AdamCase("late", 300, step=100_000),
    AdamCase("fast", 10000, lr=1e4),  # the step's own errors, not those of the value it is added to
    AdamCase("no-rate", 300, lr=0.0),
    AdamCase("no-momentum", 300, 0.5, beta1=0.0),
    AdamCase("large-eps", 300, eps=1e-3),
    AdamCase("large", 300, scale=1e15),
    AdamCase("small", 300, 0.5, scale=1e-15),
    AdamCase("squares-underflow", 300, 0.5, scale=1e-21),
    AdamCase("denormal", 300, 0.5, step=1, scale=1e-40),
)
