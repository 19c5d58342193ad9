"""Benchmark of ``composite_rays``, forward and backward: dense, in half precision and packed, and nerfacc on a CPU."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from typing import NamedTuple

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.race import HOST, KERNEL, RAYS, SAMPLES, TORCH, Call, Contest, Side, dense_bytes, time_side
from benchmarks.table import NOTES
from nerf_metal import kernels
from nerf_metal.ops import composite_rays

NERFACC = "nerfacc"
HAS_NERFACC = importlib.util.find_spec("nerfacc") is not None
NOTES["composite"] = (
    "The samples have densities. Starts and ends are views of one tensor of edges (packed: two tensors). The backward",
    "pass is that of rgb, depth and opacity. Bytes per sample: forward 28 (f16 20, packed 32), which reads sigma, rgb",
    "and times and writes weights and transmittance; backward 40 (f16 24, packed 44), which reads sigma, rgb, times",
    "and transmittance and writes the gradients of sigma and rgb. Sides are equal within 1e-4 relative + 1e-5",
    "absolute, gradients in f16 within 2e-3.",
    ("nerfacc stands for its dense functions." if HAS_NERFACC else "nerfacc not installed: pip install '.[compare]'"),
)


class Case(NamedTuple):
    samples: int
    backward: bool
    form: str

    def __str__(self) -> str:
        return f"{RAYS} x {self.samples} {'backward' if self.backward else 'forward'} {self.form}"

    @property
    def sides(self) -> list[str]:
        dense = self.form == "dense" and HAS_NERFACC
        return [HOST, TORCH, *([NERFACC] if dense else [])]


CASES = [Case(s, back, form) for s in SAMPLES for back in (False, True) for form in ("dense", "f16", "packed")]


class Scene(NamedTuple):
    """The inputs of a case. Gradients flow to sigmas and rgbs."""

    t_starts: torch.Tensor
    t_ends: torch.Tensor
    rgbs: torch.Tensor
    sigmas: torch.Tensor
    packed_info: torch.Tensor | None
    grads: tuple[torch.Tensor, ...]  # of rgb, depth and opacity


def scene(case: Case) -> Scene:
    torch.manual_seed(0)
    edges = torch.linspace(2.0, 6.0, case.samples + 1).repeat(RAYS, 1)
    t_starts, t_ends = edges[:, :-1], edges[:, 1:]
    sigmas = torch.randn(RAYS, case.samples).relu() * 2.0  # an optical depth of about 3 per ray: every sample counts
    rgbs = torch.rand(RAYS, case.samples, 3)
    packed_info = None
    if case.form == "f16":
        sigmas, rgbs = sigmas.half(), rgbs.half()
    if case.form == "packed":
        t_starts, t_ends, sigmas, rgbs = (x.flatten(0, 1) for x in (t_starts, t_ends, sigmas, rgbs))
        packed_info = _uneven(RAYS, case.samples)
    grads = (torch.randn(RAYS, 3), torch.randn(RAYS), torch.randn(RAYS))
    return Scene(t_starts, t_ends, rgbs.requires_grad_(), sigmas.requires_grad_(), packed_info, grads)


def _uneven(rays: int, mean: int) -> torch.Tensor:
    """Return (start, count) of rays with 0 to 2 * mean samples, on average mean: int32 ``[rays, 2]``."""
    count = torch.randint(0, mean + 1, (rays // 2,))
    count = torch.stack((count, 2 * mean - count), -1).flatten()
    return torch.stack((count.cumsum(0) - count, count), -1).int()


def ours(inputs: Scene, backend: str) -> list[torch.Tensor]:
    starts, ends, rgbs, sigmas, packed_info, _ = inputs
    return list(composite_rays(starts, ends, rgbs, sigmas, packed_info=packed_info, backend=backend))


def nerfacc(inputs: Scene) -> list[torch.Tensor]:
    """Compute the same five results with the functions of nerfacc."""
    package = importlib.import_module("nerfacc")
    weights, trans, _ = package.render_weight_from_density(inputs.t_starts, inputs.t_ends, inputs.sigmas)
    rgb = package.accumulate_along_rays(weights, inputs.rgbs)
    depth = package.accumulate_along_rays(weights, (0.5 * (inputs.t_starts + inputs.t_ends))[..., None])[..., 0]
    opacity = package.accumulate_along_rays(weights)[..., 0]
    return [rgb, depth, opacity, weights, trans]


def forward_call(inputs: Scene, render: Callable[[Scene], list[torch.Tensor]]) -> Call:
    def call() -> Sequence[torch.Tensor]:
        with torch.no_grad():
            return render(inputs)

    return call


def backward_call(inputs: Scene, render: Callable[[Scene], list[torch.Tensor]]) -> Call:
    results = render(inputs)[:3]
    wanted = (inputs.sigmas, inputs.rgbs)
    return lambda: torch.autograd.grad(results, wanted, inputs.grads, retain_graph=True)


def kernel_call(inputs: Scene, backward: bool) -> tuple[Call, int]:
    """Return a call of the kernel alone, into arrays that exist already, and the bytes that it must move."""
    starts, ends, rgbs, sigmas, packed_info, grads = inputs
    with torch.no_grad():
        rgb, depth, opacity, weights, trans = ours(inputs, "host")
    times = [starts, ends] if packed_info is not None else [starts]  # dense starts and ends are one array
    arrays = [sigmas, rgbs, *times, opacity, trans]
    params: dict[str, int | float] = {
        "n_rays": RAYS,
        "n_samples": sigmas.shape[-1],
        "packed": int(packed_info is not None),
        "t_stride": starts.stride(0) if packed_info is None else 0,
        "is_alpha": 0,
        "has_background": 0,
        "background_stride": 0,
        "has_grad_weights": 0,
        "has_grad_transmittance": 0,
        "early_stop_eps": 0.0,
    }
    read = [sigmas, rgbs, starts, ends, packed_info, None]
    if backward:
        written = [torch.zeros_like(sigmas), torch.zeros_like(rgbs)]
        buffers = [*read, opacity, trans, *grads, None, None, *written, None]
        arrays += [*grads, *written]
    else:
        written = [rgb, depth, opacity, weights, trans]
        buffers = [*read, *written]
        arrays += [rgb, depth, weights]
    name, threads = kernels.variant(f"composite_{'backward' if backward else 'forward'}", sigmas.dtype, "host")

    def call() -> Sequence[torch.Tensor]:
        kernels.launch(name, buffers, params, (RAYS * threads,), backend="host")
        return written

    return call, dense_bytes(*arrays)


def build(case: Case) -> Contest:
    inputs = scene(case)
    make = backward_call if case.backward else forward_call
    kernel, bytes_moved = kernel_call(inputs, case.backward)
    renders: dict[str, Callable[[Scene], list[torch.Tensor]]] = {
        HOST: lambda given: ours(given, "host"),
        TORCH: lambda given: ours(given, "torch"),
        NERFACC: nerfacc,
    }
    sides = {name: Side(make(inputs, renders[name])) for name in case.sides}
    coarse = 2e-3 if case.form == "f16" and case.backward else 0.0  # half has 11 bits
    return Contest(
        stem="composite",
        case=str(case),
        sides={**sides, KERNEL: Side(kernel)},
        samples=RAYS * case.samples,
        bytes_moved=bytes_moved,
        bar=4.0,
        rtol=coarse or 1e-4,
        atol=coarse or 1e-5,
    )


def test_race(contest: Contest, race: Callable[[Contest], None]) -> None:
    race(contest)


@pytest.mark.benchmark(max_time=0.2)
@pytest.mark.parametrize(
    ("contest", "side"),
    [pytest.param(case, side, id=f"{case}-{side}") for case in CASES for side in case.sides],
    indirect=["contest"],
)
def test_composite(benchmark: BenchmarkFixture, contest: Contest, side: str) -> None:
    time_side(benchmark, contest, side)
