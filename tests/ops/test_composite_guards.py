"""Composite kernels touch nothing but their buffers, whatever ``packed_info`` says."""

from __future__ import annotations

import pytest
import torch

from nerf_metal import kernels, ops
from nerf_metal.selftest.composite_cases import COMPOSITE_CASES, COMPOSITE_HALF_CASES, CompositeCase, CompositeInputs
from nerf_metal.selftest.composite_expected import expected_composite
from nerf_metal.selftest.modes import Mode
from nerf_metal.selftest.tolerances import all_close
from tests.ops.guards import Guarded
from tests.ops.modes import PLAIN_AND_SIMD

BIG = 2**31 - 1
# (start, count) that lead out of 40 samples, with what is left of them after the cut.
WILD = [
    ((5, BIG), (5, 35)),
    ((BIG, BIG), (40, 0)),
    ((40, 1), (40, 0)),
    ((39, 2), (39, 1)),
    ((-3, 2), (0, 2)),
    ((-BIG - 1, -BIG - 1), (0, 0)),
    ((7, -1), (7, 0)),
    ((BIG - 10, 20), (40, 0)),
    ((3, BIG - 1), (3, 37)),
]


def launch(inputs: CompositeInputs, cotangents: dict[str, torch.Tensor], mode: Mode) -> dict[str, torch.Tensor]:
    """Forward and backward with every buffer between guards."""
    guarded = Guarded()
    dtype, shape, rays = inputs.values.dtype, tuple(inputs.values.shape), inputs.rays
    dense = inputs.packed_info is None
    info = None if dense else inputs.packed_info.to(torch.int32)
    background = inputs.background
    buffers = [guarded.place(x) for x in (inputs.values, inputs.rgbs, inputs.t_starts, inputs.t_ends, info, background)]
    params: dict[str, int | float] = {
        "n_rays": rays,
        "n_samples": shape[-1],
        "packed": int(not dense),
        "t_stride": shape[-1] if dense else 0,
        "is_alpha": int(inputs.is_alpha),
        "has_background": int(background is not None),
        "background_stride": 3 if background is not None and background.dim() == 2 else 0,
        "has_grad_weights": int("weights" in cotangents),
        "has_grad_transmittance": int("transmittance" in cotangents),
        "early_stop_eps": inputs.early_stop_eps,
    }
    out = {name: guarded.unfilled(size) for name, size in (("rgb", (rays, 3)), ("depth", (rays,)))}
    out |= {name: guarded.unfilled(size) for name, size in (("opacity", (rays,)), ("weights", shape))}
    out["transmittance"] = guarded.unfilled(shape)
    grads = {"grad_values": guarded.unfilled(shape, dtype), "grad_rgbs": guarded.unfilled((*shape, 3), dtype)}
    if background is not None:
        grads["grad_background"] = guarded.unfilled((rays, 3))
    names = ("rgb", "depth", "opacity", "weights", "transmittance")
    arriving = [guarded.place(cotangents.get(name)) for name in names]
    with mode.active() as backend:
        kernel, threads = kernels.variant("composite_forward", dtype, backend)
        kernels.launch(kernel, [*buffers, *out.values()], params, (rays * threads,), backend=backend)
        kernel, threads = kernels.variant("composite_backward", dtype, backend)
        saved = [out["opacity"], out["transmittance"]]
        leaving = [grads["grad_values"], grads["grad_rgbs"], grads.get("grad_background")]
        kernels.launch(kernel, [*buffers, *saved, *arriving, *leaving], params, (rays * threads,), backend=backend)
    guarded.check()
    return out | grads


GUARDED = [
    case
    for case in COMPOSITE_CASES + COMPOSITE_HALF_CASES
    if case.background != "shared" and case.times != "wide" and 0 < case.samples <= 100
    if case.packed not in ("no-samples", "gaps", "unsorted") and case.rays > 0
]


@PLAIN_AND_SIMD
@pytest.mark.parametrize("case", GUARDED, ids=lambda case: case.name)
def test_no_kernel_touches_memory_around_its_buffers(case: CompositeCase, mode: Mode) -> None:
    want = expected_composite(case)
    got = launch(want.inputs, want.cotangents, mode)
    all_close(got, want.outputs | want.grads, want.tolerance, mode.name)


@PLAIN_AND_SIMD
@pytest.mark.parametrize("half", [False, True], ids=["float", "half"])
def test_samples_of_no_ray_are_left_alone(half: bool, mode: Mode) -> None:
    inputs = CompositeCase("", 7, 33, packed="gaps", background="each", half=half).build()
    cotangents = {"rgb": torch.ones(7, 3), "depth": torch.ones(7), "opacity": torch.ones(7)}
    got = launch(inputs, cotangents, mode)
    mine = torch.zeros(inputs.values.shape, dtype=torch.bool)
    for start, count in inputs.packed_info.tolist():
        mine[start : start + count] = True
    for name in ("weights", "transmittance", "grad_values"):
        assert torch.equal(got[name].isnan(), ~mine), name


@PLAIN_AND_SIMD
@pytest.mark.parametrize("half", [False, True], ids=["float", "half"])
@pytest.mark.parametrize(("wild", "cut"), WILD, ids=[str(w) for w, _ in WILD])
def test_wild_packed_info_is_cut_to_the_samples(
    wild: tuple[int, int], cut: tuple[int, int], half: bool, mode: Mode
) -> None:
    inputs = CompositeCase("", 1, 40, packed="even", background="each", half=half).build()
    random = torch.Generator().manual_seed(0)
    shapes = {"rgb": (1, 3), "depth": (1,), "opacity": (1,), "weights": (40,), "transmittance": (40,)}
    cotangents = {name: torch.randn(shape, generator=random) for name, shape in shapes.items()}
    got, want = (
        launch(CompositeInputs(**(vars(inputs) | {"packed_info": torch.tensor([info])})), cotangents, mode)
        for info in (wild, cut)
    )
    for name, value in want.items():
        assert torch.equal(got[name].nan_to_num(nan=-7.0), value.nan_to_num(nan=-7.0)), name
    assert torch.isfinite(got["rgb"]).all()


@PLAIN_AND_SIMD
@pytest.mark.parametrize("row", [w for w, _ in WILD], ids=str)
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64], ids=str)
def test_op_survives_wild_packed_info(row: tuple[int, int], dtype: torch.dtype, mode: Mode) -> None:
    inputs = CompositeCase("", 1, 40, packed="even").build()
    values = inputs.values.clone().requires_grad_()
    with mode.active() as backend:
        got = ops.composite_rays(
            inputs.t_starts,
            inputs.t_ends,
            inputs.rgbs,
            values,
            packed_info=torch.tensor([row], dtype=dtype),
            backend=backend,
        )
        got.rgb.sum().backward()
    assert torch.isfinite(got.rgb).all() and torch.isfinite(values.grad).all()


def test_guards_notice_one_changed_byte() -> None:
    guarded = Guarded()
    view = guarded.unfilled((3,))
    view.fill_(1.0)
    guarded.check()
    torch.as_strided(view, (1,), (1,), view.storage_offset() + 3).fill_(0.0)
    with pytest.raises(AssertionError):
        guarded.check()


@pytest.mark.parametrize("start", [4, 2**31, 2**32, 2**32 + 1, 2**62])
def test_a_start_behind_the_samples_owns_none_of_them(start: int) -> None:
    # Beyond 32 bits it must not wrap around to the first samples.
    times = torch.arange(5.0)
    info = torch.tensor([[start, 2]], dtype=torch.int64)
    out = ops.composite_rays(times[:-1], times[1:], torch.ones(4, 3), torch.ones(4), packed_info=info, backend="host")
    assert (out.opacity == 0).all()
    assert (out.weights == 0).all()
