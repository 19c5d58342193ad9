"""Named steps of Adam, and their results against the reference."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch

from nerf_metal import ops
from nerf_metal.reference import adam_step
from nerf_metal.reference.adam import bias_corrections
from nerf_metal.selftest.modes import Mode
from nerf_metal.selftest.tolerances import ADAM_MOMENT, ADAM_UPDATE, EPS, TINY, close, require, rounded_to_half

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

    def state(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """All but the half copy."""
        return self.param, self.grad, self.exp_avg, self.exp_avg_sq

    def copy(self, *, wide: bool = False) -> Table:
        """A table of its own on the CPU; ``wide`` in float64, the half copy aside."""
        half = None if self.half_copy is None else self.half_copy.to("cpu", copy=True)
        rest = [x.to("cpu", copy=True) for x in self.state()]
        param, grad, exp_avg, exp_avg_sq = (x.double() if wide else x for x in rest)
        return Table(param, grad, exp_avg, exp_avg_sq, half)


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
        """A new table with the same numbers every time."""
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
        """Of the op and of the reference."""
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


def run_adam(case: AdamCase, mode: Mode) -> Table:
    """One step; the table, still on the mode's device."""
    table = Table(*(None if x is None else mode.place(x) for x in case.build().each()))  # type: ignore[arg-type]
    with mode.active() as backend:
        ops.adam_step(*table.state(), half_copy=table.half_copy, backend=backend, **case.options)  # type: ignore[arg-type]
    return table


def compare_adam(case: AdamCase, got: Table) -> dict[str, float]:
    """Worst error over tolerance; what has no gradient is the same to the bit."""
    got, before = got.copy(), case.build()
    want = before.copy(wide=True)
    adam_step(*want.state(), half_copy=want.half_copy, **case.options)  # type: ignore[arg-type]
    untouched = (before.grad == 0) & case.sparse
    for now, old in zip(got.each(), before.each(), strict=True):
        if old is not None and old is not before.grad:
            same = now is not None and torch.equal(now[untouched], old[untouched])
            require(same, f"{case.name} wrote where there is no gradient")
    kept = torch.zeros_like(before.grad) if case.clear_grad else before.grad
    require(torch.equal(got.grad, kept), f"{case.name} left another gradient")

    grad, exp_avg = before.grad.double().abs(), before.exp_avg.double().abs()
    rate, scale = bias_corrections(case.step, case.lr, case.beta1, BETA2)
    first = case.beta1 * exp_avg + (1 - case.beta1) * grad
    # A square below the least normal float32 may be flushed to 0; the root makes much of it.
    least = (want.exp_avg_sq - 2 * TINY).clamp(min=0.0).sqrt() * scale + case.eps
    update = rate * (first + TINY) / least
    lost = rate * first / least - rate * first / (want.exp_avg_sq.sqrt() * scale + case.eps)
    limit = ADAM_UPDATE * update + lost + rate * TINY / least + EPS * want.param.abs() + TINY
    ratios = {
        "exp_avg": close(got.exp_avg, want.exp_avg, "exp_avg", ADAM_MOMENT * first + TINY, case.name),
        "exp_avg_sq": close(
            got.exp_avg_sq, want.exp_avg_sq, "exp_avg_sq", ADAM_MOMENT * want.exp_avg_sq + 2 * TINY, case.name
        ),
        "param": close(got.param, want.param, "param", limit, case.name),
    }
    if got.half_copy is not None:
        rounded = torch.equal(got.half_copy[~untouched], got.param.half()[~untouched])
        require(rounded, f"{case.name} half_copy must be the parameter rounded to half")
        limit = rounded_to_half(want.param, limit)
        close(got.half_copy[~untouched], want.param[~untouched], "half_copy", limit[~untouched], case.name)
    return ratios
