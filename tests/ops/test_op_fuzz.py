"""Ops on any tensors and numbers: one line with the op's name, or what the reference gives."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nerf_metal import ops
from tests.fuzz import examples

pytestmark = pytest.mark.host_kernels
Arguments = dict[str, Any]
SIZES = st.sampled_from([0, 1, 2, 7, 16, 33])


class Maker:
    """Draws the good arguments of an op."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        self.random = torch.Generator().manual_seed(data.draw(st.integers(0, 2**31)))

    def size(self, least: int = 0) -> int:
        return max(least, self.data.draw(SIZES))

    def one_of(self, *values: Any) -> Any:
        return self.data.draw(st.sampled_from(values))

    def floats(self, *shape: int, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
        return torch.rand(shape, generator=self.random) * (high - low) + low

    def ints(self, *shape: int, low: int = 0, high: int = 2) -> torch.Tensor:
        return torch.randint(low, high, shape, generator=self.random, dtype=torch.int32)

    def packed(self, rays: int) -> tuple[torch.Tensor, int]:
        """(start, count) of rays that lie one after another, and the samples of all."""
        counts = self.ints(rays, high=40)
        return torch.stack((counts.cumsum(0, dtype=torch.int32) - counts, counts), -1), int(counts.sum())

    def rays(self) -> Arguments:
        rays = self.size()
        box = torch.tensor([[-1.0, -0.9, -1.1], [1.0, 0.8, 1.2]])
        return {"rays_o": self.floats(rays, 3, low=-2), "rays_d": self.floats(rays, 3, low=-1), "aabb": box}


def composite(m: Maker) -> Arguments:
    rays = m.size()
    info, samples = m.packed(rays) if m.one_of(True, False) else (None, 0)
    shape = (rays, m.size()) if info is None else (samples,)
    edges = 2.0 + m.floats(*shape[:-1], shape[-1] + 1).cumsum(-1)
    dtype = m.one_of(torch.float32, torch.float32, torch.float16)
    values, name = m.floats(*shape, high=0.9).to(dtype), m.one_of("sigmas", "alphas")
    background = m.one_of(None, m.floats(3), m.floats(rays, 3))
    times = {"t_starts": edges[..., :-1], "t_ends": edges[..., 1:], "rgbs": m.floats(*shape, 3).to(dtype)}
    rest = {"packed_info": info, "background": background, "early_stop_eps": m.one_of(0.0, 1e-4)}
    return times | {name: values} | rest


def hashgrid(m: Maker) -> Arguments:
    levels = ops.hashgrid_levels(m.one_of(1, 4), 2, 40, 9)
    table = m.floats(int(levels[-1, 1] + levels[-1, 2]), m.one_of(1, 2, 4, 8), low=-1)
    return {
        "positions": m.floats(m.size(), 3),
        "table": table.to(m.one_of(torch.float32, torch.float16)),
        "levels": levels,
    }


def mlp(m: Maker) -> Arguments:
    widths = [m.one_of(1, 3, 16, 24, 33), *[m.one_of(1, 16, 40)] * m.one_of(1, 2, 4), m.one_of(1, 3, 17)]
    layers = zip(widths[1:], widths, strict=False)
    weights = [m.floats(out, into, low=-1) for out, into in layers]
    biases = m.one_of(None, [m.floats(out, low=-1) for out in widths[1:]])
    activation = m.one_of("none", "relu", "sigmoid")
    return {"x": m.floats(m.size(), widths[0]), "weights": weights, "biases": biases, "output_activation": activation}


def adam(m: Maker) -> Arguments:
    shape = (m.size(), m.one_of(1, 3, 8))
    state = {name: m.floats(*shape) for name in ("param", "grad", "exp_avg", "exp_avg_sq")}
    half = m.one_of(None, torch.zeros(shape, dtype=torch.float16))
    return state | {"step": m.one_of(1, 7), "lr": 0.1, "sparse": m.one_of(True, False), "half_copy": half}


def importance(m: Maker) -> Arguments:
    rays, intervals = m.size(), m.size(1)
    edges = m.floats(rays, intervals + 1).sort().values
    how = {"stratified": m.one_of(True, False), "merge": m.one_of(True, False), "seed": m.one_of(0, -3, 2**40)}
    return {"t_edges": edges, "weights": m.floats(rays, intervals), "num_samples": m.size(1)} | how


def march(m: Maker) -> Arguments:
    how = {"near": 0.1, "far": 50.0, "stratified": m.one_of(True, False), "seed": 5, "spacing": m.one_of(*ops.SPACINGS)}
    return m.rays() | {"num_samples": m.size(1)} | how


def bits(m: Maker, cascades: int) -> torch.Tensor:
    return m.ints(cascades * 16, low=-(2**31), high=2**31)


def traverse(m: Maker) -> Arguments:
    cascades = m.one_of(1, 3)
    grid = {"bits": bits(m, cascades), "resolution": 8, "cascades": cascades}
    room = {"max_samples": m.one_of(None, 1, 300), "max_samples_per_ray": m.one_of(1, 1024)}
    return m.rays() | grid | room | {"step_size": 0.07, "stratified": m.one_of(True, False), "seed": 3}


def cells(m: Maker) -> Arguments:
    cascades, first = m.one_of(1, 3), m.one_of(None, 0, 500)
    grid = {"bits": bits(m, cascades), "aabb": m.rays()["aabb"], "resolution": 8, "cascades": cascades, "seed": 9}
    return grid | {"num_uniform": m.size(), "num_occupied": 0 if first is not None else m.size(), "first_cell": first}


def update(m: Maker) -> Arguments:
    count, places = 32 * m.size(1), m.size()
    return {"density": m.floats(count), "cells": m.ints(places, high=count), "values": m.floats(places), "decay": 0.5}


def pack(m: Maker) -> Arguments:
    return {"density": m.floats(32 * m.size()), "threshold": m.one_of(0.0, 0.5), "out": None}


def gather(m: Maker) -> Arguments:
    rays = m.rays()
    info, samples = m.packed(len(rays["rays_o"]))
    times = {"t_starts": m.floats(samples), "t_ends": m.floats(samples)}
    place = {"source_info": info, "target_info": info.clamp(max=9) if m.one_of(True, False) else info}
    return {"rays_o": rays["rays_o"], "rays_d": rays["rays_d"]} | times | place | {"num_samples": samples + m.size()}


def count(m: Maker) -> Arguments:
    rays = m.size()
    info, samples = m.packed(rays)
    starts = m.floats(samples)
    times = {"t_starts": starts, "t_ends": starts + 0.1}
    light = {"packed_info": info, "transmittance": m.floats(rays), "early_stop_eps": 0.1}
    return {"sigmas": m.floats(samples, high=9)} | times | light


def copy(m: Maker) -> Arguments:
    info, samples = m.packed(m.size())
    width = m.one_of(0, 1, 5)
    out = torch.zeros(samples + m.size(), width)
    return {"rows": m.floats(samples, width), "source_info": info, "target_info": info, "out": out}


def harmonics(m: Maker) -> Arguments:
    return {"directions": m.floats(m.size(), 3, low=-1), "degree": m.one_of(1, 2, 3, 4)}


def intersect(m: Maker) -> Arguments:
    return m.rays() | {"near": 0.1, "far": 50.0}


MAKERS: dict[Callable[..., Any], Callable[[Maker], Arguments]] = {
    ops.composite_rays: composite,
    ops.hashgrid_encode: hashgrid,
    ops.mlp: mlp,
    ops.adam_step: adam,
    ops.sample_importance: importance,
    ops.intersect_rays: intersect,
    ops.march_rays: march,
    ops.traverse_grid: traverse,
    ops.occupancy_cells: cells,
    ops.occupancy_update: update,
    ops.occupancy_pack: pack,
    ops.visibility_gather: gather,
    ops.visibility_count: count,
    ops.visibility_copy: copy,
    ops.spherical_harmonics: harmonics,
}

# Indices that lead out of the samples or the grid: kernels cut or leave them out, torch refuses them.
CUT = (ops.composite_rays, ops.occupancy_update, ops.visibility_gather, ops.visibility_count, ops.visibility_copy)
# Their tensors must have no gaps, and have no gradient.
GAPLESS = (
    ops.adam_step,
    ops.occupancy_update,
    ops.occupancy_pack,
    ops.visibility_copy,
    ops.visibility_count,
)
CONSTANTS = ("t_starts", "t_ends")  # of which no op has a gradient
# Ways that a tensor of the same numbers can lie in memory.
LAYOUTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "as it is": lambda t: t,
    "offset": lambda t: torch.cat((t.flatten()[:1].expand(min(5, t.numel())), t.flatten()))[min(5, t.numel()) :].view(
        t.shape
    ),
    "every other": lambda t: torch.stack((t, t), -1)[..., 0],
    "transposed": lambda t: t.mT.contiguous().mT if t.dim() > 1 else t,
}
WRONG_TENSORS: list[Callable[[torch.Tensor], Any]] = [
    lambda t: None,
    lambda t: 5,
    lambda t: "x\ny",
    lambda t: [t],
    lambda t: t.double(),
    lambda t: t.half(),
    lambda t: t.long(),
    lambda t: t.to(torch.complex64),
    lambda t: t.to("meta"),
    lambda t: t[None],
    lambda t: t[..., :-1],
    lambda t: t[..., :1].clone() if t.dim() else t,
    lambda t: t.flatten(),
    lambda t: t.new_empty(0),
    lambda t: t.to_sparse(),
    lambda t: t.numpy(),
]
WRONG_NUMBERS = [
    None,
    "x",
    [],
    float("nan"),
    float("inf"),
    -float("inf"),
    -1,
    0,
    1.5,
    2**40,
    2**64,
    10**400,
    -(10**400),
    10**5000,
    b"0.5",
    1e300,
    torch.ones(3),
]


def spoil(arguments: Arguments, data: st.DataObject) -> None:
    """Make one argument wrong."""
    name = data.draw(st.sampled_from(sorted(arguments)))
    value = arguments[name]
    if isinstance(value, list):
        i = data.draw(st.integers(0, len(value) - 1))
        arguments[name] = [*value[:i], data.draw(st.sampled_from(WRONG_TENSORS))(value[i]), *value[i + 1 :]]
        if data.draw(st.booleans()):
            arguments[name] = data.draw(st.sampled_from([[], None, value[:-1], value[0], 5, {1}, torch.ones(())]))
    elif isinstance(value, torch.Tensor):
        arguments[name] = data.draw(st.sampled_from(WRONG_TENSORS))(value)
    else:
        arguments[name] = data.draw(st.sampled_from(WRONG_NUMBERS))


def laid_out(op: Callable[..., Any], arguments: Arguments, data: st.DataObject) -> Arguments:
    """The same numbers in other places, some of them with a gradient."""
    layouts = ["as it is", "offset"] if op in GAPLESS else ["as it is", *LAYOUTS]

    def one(name: str, value: Any) -> Any:
        if isinstance(value, list):
            return [one(name, v) for v in value]
        if not isinstance(value, torch.Tensor):
            return value
        value = LAYOUTS[data.draw(st.sampled_from(layouts))](value)
        may = value.is_floating_point() and op not in GAPLESS and name not in CONSTANTS
        return value.detach().requires_grad_(may and data.draw(st.integers(0, 3)) == 0)

    return {name: one(name, value) for name, value in arguments.items()}


def copied(value: Any) -> Any:
    """The same memory layout in other memory."""
    if isinstance(value, list | tuple):
        return [copied(v) for v in value]
    if not isinstance(value, torch.Tensor) or value.layout != torch.strided or value.device.type != "cpu":
        return value
    whole = torch.empty(0, dtype=value.dtype).set_(value.untyped_storage().clone())
    view = whole.as_strided(value.shape, value.stride(), value.storage_offset())
    return view.requires_grad_(value.requires_grad)


def flat(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    return [t for v in value for t in flat(v)] if isinstance(value, list | tuple) else []


def run(op: Callable[..., Any], arguments: Arguments, backend: str) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Results and what was written in place; gradients of the arguments."""
    results = flat(op(**arguments, backend=backend))
    inputs = flat(list(arguments.values()))
    leaves = [t for t in inputs if t.requires_grad]
    loss = [
        (r.float() * torch.arange(1.0, r.numel() + 1).view(r.shape).sin()).sum() for r in results if r.requires_grad
    ]
    grads = torch.autograd.grad(sum(loss), leaves, allow_unused=True) if loss else [None] * len(leaves)
    zeros = [torch.zeros_like(t) if g is None else g for t, g in zip(leaves, grads, strict=True)]
    return [t.detach() for t in results + inputs], zeros


def agree(op: Callable[..., Any], ours: list[torch.Tensor], theirs: list[torch.Tensor], grads: bool) -> None:
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype, (a.dtype, b.dtype)
        if op in (ops.traverse_grid, ops.sample_importance) and a.shape != b.shape:
            continue  # a step of which rounding decides whether it falls into a cell
        coarse = a.dtype == torch.float16
        torch.testing.assert_close(a, b, rtol=4e-3 if coarse else 2e-3, atol=4e-3 if grads or coarse else 1e-3)


def check(op: Callable[..., Any], arguments: Arguments) -> str | None:
    """None where it ran, with the reference's results; else how it refused."""
    again = {name: copied(value) for name, value in arguments.items()}
    try:
        ours, our_grads = run(op, arguments, "host")
    except (ValueError, TypeError) as error:
        assert str(error).startswith(f"[{op.__name__}] "), str(error)
        assert "\n" not in str(error)
        return str(error)
    try:
        theirs, their_grads = run(op, again, "torch")
    except (IndexError, RuntimeError):
        assert op in CUT  # or the reference takes less than the kernels
        return None
    agree(op, ours, theirs, False)
    agree(op, our_grads, their_grads, True)
    return None


OPS = pytest.mark.parametrize("op", MAKERS, ids=lambda op: op.__name__)


def test_every_op_is_fuzzed() -> None:
    takes_backend = [
        o
        for name in ops.__all__
        if inspect.isfunction(o := getattr(ops, name)) and "backend" in inspect.signature(o).parameters
    ]
    assert set(takes_backend) == set(MAKERS)


@OPS
@examples(60)
@given(data=st.data())
def test_any_layout_gives_the_references_result(op: Callable[..., Any], data: st.DataObject) -> None:
    assert check(op, laid_out(op, MAKERS[op](Maker(data)), data)) is None


@OPS
def test_a_wrong_argument_is_named_or_gives_the_references_result(op: Callable[..., Any]) -> None:
    refused = set()

    @examples(60)
    @given(data=st.data())
    def run(data: st.DataObject) -> None:
        arguments = MAKERS[op](Maker(data))
        spoil(arguments, data)
        refused.add(check(op, arguments))

    run()
    assert len(refused) > 5  # words, and None where it ran
