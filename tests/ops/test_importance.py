"""Importance sampling: edges worked by hand on every backend, then the reference, then the kernel against it."""

from __future__ import annotations

import pytest
import torch

from nerf_metal import kernels, ops
from nerf_metal.reference import sample_importance
from nerf_metal.reference.random import STREAM_IMPORTANCE, uniform
from nerf_metal.selftest.importance import FLOOR, IMPORTANCE_CASES, ImportanceCase, compare_importance, run_importance
from nerf_metal.selftest.modes import METAL, Mode
from nerf_metal.selftest.tolerances import EPS, HISTOGRAM_STRATA, close
from tests.ops.guards import Guarded
from tests.ops.modes import ALL_PLAIN_MODES, ON_METAL, PLAIN_KERNEL_MODES

CASES = pytest.mark.parametrize("case", IMPORTANCE_CASES, ids=lambda case: case.name)


def sample(mode: Mode, edges: torch.Tensor, weights: torch.Tensor, n: int, **options: object) -> torch.Tensor:
    with mode.active() as backend:
        return ops.sample_importance(edges.to(mode.device), weights.to(mode.device), n, backend=backend, **options)


def launch(
    mode: Mode,
    edges: torch.Tensor,
    weights: torch.Tensor,
    n: int,
    *,
    seed: int,
    stratified: bool,
    merge: bool,
    weight_floor: float = FLOOR,
) -> torch.Tensor:
    """The kernel itself, with every buffer between guards."""
    guarded = Guarded()
    rows, intervals = weights.shape
    out = guarded.unfilled((rows, n + (intervals + 1 if merge else 0)))
    params = {
        "n_rays": rows,
        "n_samples": intervals,
        "n_importance": n,
        "stratified": int(stratified),
        "merge": int(merge),
        "seed": seed & 0xFFFFFFFF,
        "weight_floor": weight_floor,
    }
    with mode.active() as backend:
        buffers = [guarded.place(edges), guarded.place(weights), out]
        kernels.launch("importance_forward_f32", buffers, params, (rows,), backend=backend)
    guarded.check()
    return out


@ALL_PLAIN_MODES
def test_draws_follow_the_weights(mode: Mode) -> None:
    # Masses 1 and 3 (the floor is too small to see) over [0, 1] and [1, 3]: cdf 1, 4. u = 1/8, 3/8, 5/8, 7/8 of 4 are
    # 0.5, 1.5, 2.5, 3.5: the first in the middle of [0, 1], the others 1/6, 1/2, 5/6 into [1, 3].
    edges, weights = torch.tensor([[0.0, 1.0, 3.0]]), torch.tensor([[1.0, 3.0]])
    want = torch.tensor([[0.5, 1.0 + 1.0 / 3.0, 2.0, 1.0 + 5.0 / 3.0]])
    got = sample(mode, edges, weights, 4, merge=False, weight_floor=1e-9)
    close(got, want, "drawn", EPS * 16)
    union = torch.tensor([[0.0, 0.5, 1.0, 1.0 + 1.0 / 3.0, 2.0, 1.0 + 5.0 / 3.0, 3.0]])
    close(sample(mode, edges, weights, 4, weight_floor=1e-9), union, "merged", EPS * 16)


@ALL_PLAIN_MODES
def test_floor_and_negative_weights(mode: Mode) -> None:
    # -5 counts as 0: masses 1, 2 with a floor of 1. u = 1/4 and 3/4 of 3: 0.75 and 2.25.
    edges = torch.tensor([[0.0, 1.0, 2.0]])
    got = sample(mode, edges, torch.tensor([[-5.0, 1.0]]), 2, merge=False, weight_floor=1.0)
    close(got, torch.tensor([[0.75, 1.625]]), "drawn", EPS * 8)
    # no weight at all: evenly
    even = sample(mode, edges, torch.zeros(1, 2), 4, merge=False)
    close(even, torch.tensor([[0.25, 0.75, 1.25, 1.75]]), "drawn", EPS * 8)


@ALL_PLAIN_MODES
def test_a_draw_on_an_edge_is_that_edge(mode: Mode) -> None:
    # Two equal masses and one draw: u lies on the edge between them, which belongs to the interval that begins there.
    random = torch.Generator().manual_seed(0)
    start = -100.0 * torch.rand(500, generator=random)
    edge = torch.rand(500, generator=random)
    # most of these edges come out as another number when they are made as start + (edge - start)
    assert (start + (edge - start) != edge).any()
    edges = torch.stack((start, edge, edge + 1.0), -1)
    got = sample(mode, edges, torch.ones(500, 2), 1, merge=False, weight_floor=0.5)
    assert torch.equal(got[:, 0], edge)


@PLAIN_KERNEL_MODES
@pytest.mark.parametrize("merge", [False, True])
def test_a_jitter_that_rounds_up_to_the_end_stays_inside_the_ray(merge: bool, mode: Mode) -> None:
    # Of 2^16 draws the last has u = (65535 + r) / 65536 and, for this seed, an r that float32 rounds up to 1: the
    # target is the whole mass, which no interval holds. Behind the buffers lie NaNs.
    seed, draws = 67, 2**16
    r = uniform(1, draws, seed, STREAM_IMPORTANCE, torch.device("cpu"))[0, -1].float()
    assert r < 1 and draws - 1 + r == draws
    edges = torch.tensor([[-12.0, -10.3, 0.3]])
    start, end = edges[0, 1:]
    assert start + (end - start) > end  # and rounding would carry the last draw beyond the last edge
    out = launch(mode, edges, torch.full((1, 2), 0.5), draws, seed=seed, stratified=True, merge=merge, weight_floor=0.5)
    assert out[0, -1] == end and (out <= end).all()
    assert (out.diff() >= 0).all()
    assert (out == end).sum() == 1 + merge


@ALL_PLAIN_MODES
def test_jitter_is_one_number_for_each_stratum(mode: Mode) -> None:
    u = uniform(3, 4, 21, STREAM_IMPORTANCE, torch.device("cpu"))
    edges = torch.tensor([[0.0, 4.0]]).expand(3, 2)
    got = sample(mode, edges, torch.ones(3, 1), 4, merge=False, stratified=True, seed=21)
    close(got, torch.arange(4) + u, "drawn", EPS * 16)


# ---- the reference ----
@CASES
def test_reference_union_is_sorted_and_whole(case: ImportanceCase) -> None:
    edges, weights = (x.double() for x in case.build())
    options = {"stratified": case.stratified, "seed": case.seed}
    union = sample_importance(edges, weights, case.num_samples, **options)
    drawn = sample_importance(edges, weights, case.num_samples, merge=False, **options)
    assert torch.equal(union, torch.cat((edges, drawn), -1).sort(-1).values)
    assert (drawn.diff(dim=-1) >= 0).all()
    assert ((drawn >= edges[:, :1]) & (drawn <= edges[:, -1:])).all()


@CASES
def test_reference_histogram_follows_the_weights(case: ImportanceCase) -> None:
    edges, weights = (x.double() for x in case.build())
    draws = 2000
    drawn = sample_importance(edges, weights, draws, stratified=case.stratified, seed=case.seed, merge=False)
    mass = weights.clamp(min=0) + FLOOR
    share = (mass / mass.sum(-1, keepdim=True)).cumsum(-1)
    below = (drawn[:, None, :] < edges[:, 1:, None]).sum(-1)
    long = (edges[:, 1:] > edges[:, :-1]).flip(-1).cummax(-1).values.flip(-1)  # followed by some length
    assert ((below - share * draws).abs() <= HISTOGRAM_STRATA)[long & (edges.diff(dim=-1) > 0)].all()


# ---- the kernel ----
@PLAIN_KERNEL_MODES
@CASES
def test_draws_are_the_references(case: ImportanceCase, mode: Mode) -> None:
    compare_importance(case, run_importance(case, mode))


@ON_METAL
def test_metal_draws_are_the_references() -> None:
    for case in IMPORTANCE_CASES:
        compare_importance(case, run_importance(case, METAL))


@PLAIN_KERNEL_MODES
@CASES
@pytest.mark.parametrize("merge", [False, True])
@pytest.mark.parametrize("spoiled", [None, float("nan"), float("inf"), -float("inf")])
def test_nothing_but_the_result_is_written(
    spoiled: float | None, merge: bool, case: ImportanceCase, mode: Mode
) -> None:
    edges, weights = case.build()
    if spoiled is not None:
        weights[:, :: max(case.intervals // 2, 1)] = spoiled
    out = launch(mode, edges, weights, case.num_samples, seed=case.seed, stratified=case.stratified, merge=merge)
    if spoiled is None:
        options = {"stratified": case.stratified, "seed": case.seed, "merge": merge}
        assert torch.equal(out, sample(mode, edges, weights, case.num_samples, **options))


@ALL_PLAIN_MODES
def test_equal_seeds_give_equal_draws_and_others_do_not(mode: Mode) -> None:
    edges, weights = IMPORTANCE_CASES[4].build()
    drawn = {s: sample(mode, edges, weights, 16, stratified=True, seed=s) for s in (0, 1, 2**32)}
    assert torch.equal(drawn[0], sample(mode, edges, weights, 16, stratified=True, seed=0))
    assert torch.equal(drawn[0], drawn[2**32])
    assert not torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], sample(mode, edges, weights, 16))


@ALL_PLAIN_MODES
def test_arguments_may_be_views_and_get_no_gradient(mode: Mode) -> None:
    edges, weights = (x.requires_grad_() for x in ImportanceCase("", 31, 33, 8).build())
    want = sample(mode, edges, weights, 8)
    wide = torch.nn.functional.pad(edges.detach(), (3, 2), value=float("nan"))[:, 3:-2]
    got = sample(mode, wide, weights.detach().t().contiguous().t(), 8)
    assert torch.equal(got, want) and not want.requires_grad
    shared = sample(mode, edges, weights[:1].expand(31, 33), 8)
    assert torch.equal(shared, sample(mode, edges, weights[:1].repeat(31, 1), 8))
