"""Traversal kernels against the float64 reference, which looks at every step, in every mode."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nerf_metal import kernels, ops
from nerf_metal.reference import TraversedRays
from nerf_metal.selftest.march import BOX
from nerf_metal.selftest.modes import HOST, METAL, Mode
from nerf_metal.selftest.traverse import TRAVERSE_CASES, TraverseCase, compare_traversed, of_ray
from tests.ops.guards import Guarded
from tests.ops.modes import ON_METAL, PLAIN_KERNEL_MODES

CASES = pytest.mark.parametrize("case", TRAVERSE_CASES, ids=lambda case: case.name)


def named(name: str) -> TraverseCase:
    return next(case for case in TRAVERSE_CASES if case.name == name)


@PLAIN_KERNEL_MODES
@CASES
def test_samples_are_the_references(case: TraverseCase, mode: Mode) -> None:
    compare_traversed(case, case.run(mode))


@ON_METAL
def test_metal_samples_are_the_references() -> None:
    for case in TRAVERSE_CASES:
        compare_traversed(case, case.run(METAL))


@pytest.mark.host_kernels
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(
    case=st.builds(
        TraverseCase,
        name=st.just("drawn"),
        rays=st.integers(1, 40),
        resolution=st.sampled_from([8, 12, 16, 20, 32, 48]),
        cascades=st.integers(1, 5),
        grid=st.sampled_from(["blobs", "cells", "full"]),
        step_size=st.floats(0.01, 0.5),
        cone_angle=st.sampled_from([0.0, 0.0, 1 / 256, 0.02, 0.3]),
        near=st.floats(0.0, 1.0),
        far=st.floats(1.5, 20.0),
        stratified=st.booleans(),
        seed=st.integers(-(2**40), 2**40),
    )
)
def test_any_grid_gives_the_references_samples(case: TraverseCase) -> None:
    compare_traversed(case, case.run(HOST))


def launch(case: TraverseCase, mode: Mode, per_thread: int, extra: int = 0) -> TraversedRays:
    """The kernels themselves, with every buffer between guards; ``extra``: room for so many samples too many."""
    guarded = Guarded()
    inputs = [guarded.place(x) for x in (*case.rays_o_d(), BOX, case.bits())]
    blocks = guarded.unfilled((-(-case.cascades * (case.resolution // 4) ** 3 // 32),), torch.int32)
    counts = guarded.unfilled((case.rays,), torch.int32)
    params: dict[str, int | float] = {
        "n_rays": case.rays,
        "n_words": case.cascades * case.resolution**3 // 32,
        "n_block_words": len(blocks),
        "n_samples": 0,
        "rays_per_thread": per_thread,
        "samples_per_ray": case.max_samples_per_ray,
        "resolution": case.resolution,
        "cascades": case.cascades,
        "stratified": int(case.stratified),
        "seed": case.seed & 0xFFFFFFFF,
        "step_size": case.step_size,
        "cone_angle": case.cone_angle,
        "t_near": case.near,
        "t_far": case.far,
    }
    grid = (-(-case.rays // per_thread),)
    with mode.active() as backend:
        kernels.launch("traverse_blocks", [inputs[3], blocks], params, (len(blocks) + 3,), backend=backend)
        kernels.launch("traverse_count_f32", [*inputs, blocks, counts], params, grid, backend=backend)
        counts += extra
        ends = counts.cumsum(0, dtype=torch.int32)
        info = guarded.place(torch.stack((ends - counts, counts), dim=-1))
        params["n_samples"] = int(counts.sum())
        index = guarded.unfilled((int(counts.sum()),), torch.int32)
        starts, stops = (guarded.unfilled((int(counts.sum()),)) for _ in range(2))
        buffers = [*inputs, blocks, info, index, starts, stops]
        kernels.launch("traverse_write_f32", buffers, params, grid, backend=backend)
    guarded.check()
    return TraversedRays(info, index, starts, stops)


@PLAIN_KERNEL_MODES
@pytest.mark.parametrize("case", [c for c in TRAVERSE_CASES if c.rays], ids=lambda case: case.name)
@pytest.mark.parametrize("per_thread", [1, 7, 16, 40])
def test_threads_of_any_size_write_every_sample_and_nothing_else(
    per_thread: int, case: TraverseCase, mode: Mode
) -> None:
    got, want = launch(case, mode, per_thread), case.run(mode)
    assert all(torch.equal(one, two) for one, two in zip(got, want, strict=True))


@PLAIN_KERNEL_MODES
@pytest.mark.parametrize("name", ["33-rays", "cone"])
def test_room_for_samples_that_are_not_found_becomes_samples_of_no_length(name: str, mode: Mode) -> None:
    case = named(name)
    got, want = launch(case, mode, 16, extra=3), case.run(mode)
    for ray in range(case.rays):
        for mine, theirs in zip(of_ray(got, ray), of_ray(want, ray), strict=True):
            assert torch.equal(mine, torch.cat((theirs, torch.zeros(3, dtype=torch.float64))))
    assert torch.equal(got.ray_indices, torch.arange(case.rays).repeat_interleave(got.packed_info[:, 1]))


@PLAIN_KERNEL_MODES
@pytest.mark.parametrize("name", ["33-rays", "cone"])
def test_a_full_buffer_cuts_the_rays(name: str, mode: Mode) -> None:
    case = named(name)
    whole = case.run(mode)
    total = len(whole.t_starts)
    for room in (1, total // 2, total, total + 100):
        got = case.run(mode, max_samples=room)
        kept = min(room, total)
        for mine, theirs in zip(got[1:], whole[1:], strict=True):
            assert torch.equal(mine[:kept], theirs[:kept]) and mine.shape == (room,) and not mine[kept:].any()
        ends = got.packed_info.sum(-1)
        assert torch.equal(ends, whole.packed_info.sum(-1).clamp(max=room))
        assert torch.equal(got.packed_info[:, 0], whole.packed_info[:, 0].clamp(max=room))


@PLAIN_KERNEL_MODES
def test_rays_may_be_views(mode: Mode) -> None:
    case = named("33-rays")
    o, d = case.rays_o_d()
    both = torch.cat((torch.full((case.rays, 1), float("nan")), o, d), -1)  # offsets 1 and 4, row stride 7
    words = torch.stack((case.bits(), torch.zeros_like(case.bits())), dim=-1)[:, 0]
    inputs = both[:, 1:4], both[:, 4:], BOX.t().contiguous().t(), words
    with mode.active() as backend:
        got = ops.traverse_grid(*inputs, backend=backend, **case.options)
    assert all(torch.equal(one, two) for one, two in zip(got, case.run(mode), strict=True))


@PLAIN_KERNEL_MODES
@pytest.mark.parametrize("cascades", [1, 3])
@pytest.mark.parametrize("cone_angle", [0.0, 1 / 256])
@pytest.mark.parametrize("step", [0.0, float("nan"), float("inf"), -1.0, 1e-38, 1e-7])
def test_absurd_steps_end(step: float, cone_angle: float, cascades: int, mode: Mode) -> None:
    case = TraverseCase("absurd", 17, cascades=cascades, step_size=step, cone_angle=cone_angle, max_samples_per_ray=9)
    got = launch(case, mode, 16)
    assert (got.packed_info[:, 1] <= 9).all()


@pytest.mark.host_kernels
@pytest.mark.parametrize("name", ["257-rays", "cone"])
def test_more_threads_change_no_bit(name: str) -> None:
    case = named(name)
    alone = case.run(HOST)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        together = case.run(HOST)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, two) for one, two in zip(alone, together, strict=True))
