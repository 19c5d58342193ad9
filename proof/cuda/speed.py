"""How long each kernel takes on inputs large enough to fill a GPU, set against what the GPU can do at most."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch

from nerf_metal import ops
from proof.cuda.provider import Executor

TIMES = 5  # of which the best counts: the first also loads the kernel
SAMPLES = 2**23  # 8 million: a kernel of 1 ns a sample and GPU would take 8 ms, a launch takes 5 us
BOX = torch.tensor([[-1.0] * 3, [1.0] * 3])
WIDTHS = (32, 64, 64, 16)  # of an MLP's layers: the colour network of instant-ngp


@dataclass(frozen=True)
class Workload:
    """``run`` calls one op, forward and backward, on so many samples; ``flops`` where a kernel's are known."""

    samples: int
    run: Callable[[], object]
    flops: dict[str, float]


@dataclass(frozen=True)
class Speed:
    """Of one kernel: time, and the share of the GPU's bandwidth or arithmetic, whichever is used more."""

    nanoseconds_per_sample: float
    fraction: float
    of: str


def _composite(samples: int, dtype: torch.dtype) -> Workload:
    rays = samples // 128
    edges = torch.rand(rays, 129).cumsum(-1)
    sigmas = (torch.rand(rays, 128) * 0.1).to(dtype).requires_grad_()
    rgbs = torch.rand(rays, 128, 3).to(dtype).requires_grad_()

    def run() -> None:
        out = ops.composite_rays(edges[:, :-1], edges[:, 1:], rgbs, sigmas, backend="metal")
        torch.autograd.grad(out.rgb.sum(), (sigmas, rgbs))

    return Workload(samples, run, {})


def _rays(samples: int) -> Iterator[Workload]:
    rays = max(samples // 64, 32)
    o = torch.nn.functional.normalize(torch.randn(rays, 3), dim=-1) * 4.0
    d = torch.nn.functional.normalize(torch.rand(rays, 3) * 1.6 - 0.8 - o, dim=-1)
    yield Workload(64 * rays, lambda: ops.march_rays(o, d, BOX, 64, backend="metal"), {})
    yield Workload(rays, lambda: ops.intersect_rays(o, d, BOX, backend="metal"), {})
    edges, weights = torch.rand(rays, 65).cumsum(-1), torch.rand(rays, 64)
    yield Workload(64 * rays, lambda: ops.sample_importance(edges, weights, 64, backend="metal"), {})
    bits = torch.randint(-(2**31), 2**31, (64**3 // 32,), dtype=torch.int32)
    step: dict[str, Any] = {"resolution": 64, "step_size": 0.03, "backend": "metal"}  # two steps a cell
    found = ops.traverse_grid(o, d, BOX, bits, **step)
    count, info = len(found.t_starts), found.packed_info
    yield Workload(count, lambda: ops.traverse_grid(o, d, BOX, bits, **step), {})
    spans = (found.t_starts, found.t_ends, info)
    yield Workload(count, lambda: ops.visibility_gather(o, d, *spans, info, count, backend="metal"), {})
    sigmas, light, rows = torch.rand(count), torch.ones(rays), torch.rand(count, 4)
    yield Workload(count, lambda: ops.visibility_count(sigmas, *spans, light, early_stop_eps=1e-4, backend="metal"), {})
    out = torch.empty_like(rows)
    yield Workload(count, lambda: ops.visibility_copy(rows, info, info, out, backend="metal"), {})


def _hashgrid(samples: int, dtype: torch.dtype, deterministic: bool) -> Workload:
    levels = ops.hashgrid_levels(16, 16, 2048, 19)
    positions = torch.rand(samples, 3).requires_grad_()
    table = torch.rand(int(levels[-1, 1] + levels[-1, 2]), 2).to(dtype).requires_grad_()

    def run() -> None:
        features = ops.hashgrid_encode(positions, table, levels, deterministic=deterministic, backend="metal")
        torch.autograd.grad(features.sum(), (positions, table))

    return Workload(samples, run, {})


def _mlp(samples: int) -> Workload:
    x = torch.rand(samples, WIDTHS[0]).requires_grad_()
    weights = [(torch.randn(o, i) / i**0.5).requires_grad_() for i, o in pairwise(WIDTHS)]
    *hidden, last = (2.0 * samples * w.numel() for w in weights)

    def run() -> None:
        y = ops.mlp(x, weights, backend="metal")
        torch.autograd.grad(y.sum(), (x, *weights))

    flops = {
        "mlp_forward_simd_f32": sum(hidden) + last,
        "mlp_backward_rows_simd_f32": 2.0 * sum(hidden) + last,  # the hidden layers once more, then all of them back
        "mlp_backward_weights_simd_f32": sum(hidden) + last,
    }
    return Workload(samples, run, flops)


def _elements(samples: int) -> Iterator[Workload]:
    directions = torch.nn.functional.normalize(torch.randn(samples, 3), dim=-1).requires_grad_()

    def harmonics() -> None:
        torch.autograd.grad(ops.spherical_harmonics(directions, backend="metal").sum(), directions)

    yield Workload(samples, harmonics, {})
    state = torch.rand(4, samples)
    yield Workload(samples, lambda: ops.adam_step(*state, step=3, lr=1e-2, clear_grad=False, backend="metal"), {})
    bits = torch.full((128**3 // 32,), 0x11111111, dtype=torch.int32)
    place: dict[str, Any] = {"resolution": 128, "backend": "metal"}
    cells = ops.occupancy_cells(bits, BOX, samples // 2, samples - samples // 2, **place).cells
    yield Workload(samples, lambda: ops.occupancy_cells(bits, BOX, samples // 2, samples - samples // 2, **place), {})
    density, values = torch.rand(128**3), torch.rand(samples)
    yield Workload(samples, lambda: ops.occupancy_update(density, cells, values, backend="metal"), {})
    yield Workload(len(density), lambda: ops.occupancy_pack(density, 0.5, backend="metal"), {})


def workloads(samples: int = SAMPLES) -> Iterator[Workload]:
    """One of each op, and of each number format that it has."""
    torch.manual_seed(0)
    for dtype in (torch.float32, torch.float16):
        yield _composite(samples, dtype)
        yield _hashgrid(samples // 8, dtype, deterministic=False)  # 16 levels each
    yield _hashgrid(samples // 8, torch.float32, deterministic=True)
    yield from _rays(samples)
    yield _mlp(samples // 8)
    yield from _elements(samples)


def measure(executor: Executor, ceilings: tuple[float, float], samples: int = SAMPLES) -> dict[str, Speed]:
    """Every kernel that the workloads launch. ``ceilings``: bytes and float32 operations a second."""
    found: dict[str, Speed] = {}
    for work in workloads(samples):
        executor.take_log()
        best: dict[str, float] = {}
        for _ in range(TIMES):
            work.run()
            seconds: defaultdict[str, float] = defaultdict(float)
            moved: defaultdict[str, float] = defaultdict(float)
            for launch in executor.take_log():
                seconds[launch["kernel"]] += 1e-3 * launch["milliseconds"]
                moved[launch["kernel"]] += launch["bytes"]
            for kernel, now in seconds.items():
                best[kernel] = min(best.get(kernel, now), now)
        for kernel, taken in best.items():
            uses = [
                (moved[kernel] / taken / ceilings[0], "copy"),
                (work.flops.get(kernel, 0.0) / taken / ceilings[1], "multiply-add"),
            ]
            found.setdefault(kernel, Speed(1e9 * taken / work.samples, *max(uses)))
    return found
