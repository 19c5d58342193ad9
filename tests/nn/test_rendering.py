"""Sampling through the grid and rendering by functions: which samples stay, and the colors that come of them."""

from __future__ import annotations

import math

import pytest
import torch

from nerf_metal import nn, ops
from tests.refusals import refusal

BOX = torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])
BACKENDS = pytest.mark.parametrize("backend", ["host", "torch"])


def rays(count: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    """Rays from outside of the box toward it; the last one misses it."""
    generator = torch.Generator().manual_seed(1)
    origins = torch.randn(count, 3, generator=generator) * 0.2 + torch.tensor([0.0, 0.0, 3.0])
    targets = (torch.rand(count, 3, generator=generator) - 0.5) * 1.6
    directions = torch.nn.functional.normalize(targets - origins, dim=-1)
    directions[-1] *= -1.0
    return origins, directions


def grid_with_a_hole(backend: str = "auto", **options: object) -> nn.OccupancyGrid:
    grid = nn.OccupancyGrid(BOX, 8, step_size=0.05, backend=backend, **options)
    mask = torch.ones(8, 8, 8, dtype=torch.bool)
    mask[2:5] = False
    grid.mark(mask)
    return grid


def cloud(x: torch.Tensor) -> torch.Tensor:
    """Densities from next to nothing to opaque."""
    return 30.0 * torch.relu(x[:, 0] + x[:, 2])


@BACKENDS
def test_without_a_function_all_marched_samples_stay(backend: str) -> None:
    (o, d), grid = rays(), grid_with_a_hole(backend, cascades=2)
    how = {"stratified": True, "seed": 3, "near": 1.6, "far": 3.6, "cone_angle": 0.02, "max_samples_per_ray": 28}
    samples = grid.sampling(o, d, **how)
    place = {"resolution": 8, "cascades": 2, "step_size": 0.05, "backend": backend}
    marched = ops.traverse_grid(o, d, BOX, grid.bits, **place, **how)
    for name in how:  # each one matters
        others = ops.traverse_grid(o, d, BOX, grid.bits, **place, **{k: v for k, v in how.items() if k != name})
        assert not torch.equal(others.t_ends, marched.t_ends), name
    assert samples.ray_indices.dtype == torch.int64 and samples.packed_info.dtype == torch.int32
    for name in samples._fields:
        assert torch.equal(getattr(samples, name), getattr(marched, name)), name
    assert samples.packed_info[-1, 1] == 0 and len(samples.t_starts) > 100


@BACKENDS
@pytest.mark.parametrize(("early_stop_eps", "alpha_threshold"), [(1e-4, 0.0), (0.3, 0.0), (0.0, 0.2), (0.3, 0.2)])
def test_samples_that_no_light_reaches_are_dropped(early_stop_eps: float, alpha_threshold: float, backend: str) -> None:
    """Those stay whose transmittance and opacity, worked out one by one, are large enough; nothing else changes."""
    (o, d), grid = rays(), grid_with_a_hole(backend)
    every = grid.sampling(o, d)
    calls = []

    def sigma_fn(t_starts: torch.Tensor, t_ends: torch.Tensor, ray: torch.Tensor) -> torch.Tensor:
        assert not torch.is_grad_enabled()
        calls.append(len(ray))
        return cloud(nn.sample_positions(o, d, t_starts, t_ends, ray))

    found = grid.sampling(o, d, sigma_fn, early_stop_eps=early_stop_eps, alpha_threshold=alpha_threshold)
    tau = cloud(every.positions(o, d)).double() * (every.t_ends - every.t_starts)
    expected = []
    for first, count in every.packed_info.tolist():
        light = 1.0
        for i in range(first, first + count):
            if light >= early_stop_eps and 1.0 - math.exp(-tau[i]) >= alpha_threshold:
                expected.append(i)
            light *= math.exp(-tau[i])
    assert calls == [len(every.t_starts)] and 0 < len(expected) < len(every.t_starts)
    for a, b in zip(found[:3], every[:3], strict=True):
        assert torch.equal(a, b[expected])
    counts = torch.bincount(found.ray_indices, minlength=len(o))
    assert found.packed_info.tolist() == [[int(s), int(c)] for s, c in zip(counts.cumsum(0) - counts, counts)]  # noqa: B905


@BACKENDS
@pytest.mark.parametrize("given", ["counted", "packed_info"])
@pytest.mark.parametrize("kind", ["sigma", "alpha"])
def test_rendering_is_composite_rays(kind: str, given: str, backend: str) -> None:
    (o, d), grid = rays(), grid_with_a_hole(backend)
    samples = grid.sampling(o, d)
    colors = samples.positions(o, d).abs().clamp(max=1.0).requires_grad_()
    values = torch.rand(len(colors), generator=torch.Generator().manual_seed(2)).requires_grad_()
    background = torch.rand(len(o), 3, generator=torch.Generator().manual_seed(3))
    seen = []

    def function(*arguments: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(arguments)
        return colors, values

    rendered = nn.render(
        samples.t_starts,
        samples.t_ends,
        samples.ray_indices,
        len(o),
        packed_info=samples.packed_info if given == "packed_info" else None,
        background=background,
        backend=backend,
        **{f"rgb_{kind}_fn": function},
    )
    assert [x is y for x, y in zip(seen[0], (samples.t_starts, samples.t_ends, samples.ray_indices), strict=True)]
    expected = ops.composite_rays(
        samples.t_starts,
        samples.t_ends,
        colors,
        packed_info=samples.packed_info,
        background=background,
        backend=backend,
        **{f"{kind}s": values},
    )
    for name in rendered._fields:
        assert torch.equal(getattr(rendered, name), getattr(expected, name)), name
    assert torch.equal(rendered.rgb[-1], background[-1])  # it has met nothing
    rendered.rgb.sum().backward()
    assert colors.grad.any() and values.grad.any()


def test_dropped_samples_change_no_color_by_more_than_the_light_left() -> None:
    (o, d), grid = rays(), grid_with_a_hole()

    def sigma_fn(*where: torch.Tensor) -> torch.Tensor:
        return cloud(nn.sample_positions(o, d, *where))

    def rgb_sigma_fn(*where: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.ones(len(where[0]), 3), sigma_fn(*where)

    colors = []
    for function in (None, sigma_fn):
        ray, t_starts, t_ends, _ = grid.sampling(o, d, function, early_stop_eps=1e-2)
        colors.append(nn.render(t_starts, t_ends, ray, len(o), rgb_sigma_fn=rgb_sigma_fn).rgb)
    assert 0 < (colors[0] - colors[1]).abs().max() <= 1e-2


def test_positions_have_gradients_to_their_rays() -> None:
    o, d = (x.double().requires_grad_() for x in rays(3))
    ray, t = torch.tensor([0, 0, 2]), torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)
    positions = nn.sample_positions(o, d, t, t + 0.5, ray)
    torch.testing.assert_close(positions, torch.stack([o[r] + (s + 0.25) * d[r] for r, s in zip(ray, t)]))  # noqa: B905
    positions.sum().backward()
    assert o.grad.tolist() == [[2.0] * 3, [0.0] * 3, [1.0] * 3]
    assert d.grad.tolist() == [[3.5] * 3, [0.0] * 3, [5.25] * 3]


def test_no_sample_at_all() -> None:
    """A whole empty grid: backgrounds, and a backward pass that finds nothing to learn."""
    (o, d), grid = rays(), nn.OccupancyGrid(BOX, 8)
    grid.mark(torch.zeros(512, dtype=torch.bool))
    network = nn.FusedMLP(3, 4, 16)
    ray, t_starts, t_ends, info = grid.sampling(o, d, lambda *where: network(nn.sample_positions(o, d, *where))[:, 0])
    assert len(ray) == 0 and not info.any()

    def rgb_sigma_fn(*where: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        values = network(nn.sample_positions(o, d, *where))
        return values[:, 1:], values[:, 0]

    rendered = nn.render(t_starts, t_ends, ray, len(o), rgb_sigma_fn=rgb_sigma_fn, background=torch.ones(3))
    assert (rendered.rgb == 1.0).all() and not rendered.opacity.any()
    rendered.rgb.sum().backward()
    assert not network.weights[0].grad.any()


def test_default_step_and_threshold_belong_together() -> None:
    """A step is 1/1024 of the diagonal; a cell is occupied if such a step has an optical thickness of 0.01."""
    grid, set_by_hand = nn.OccupancyGrid(BOX, 8, warmup_updates=1), nn.OccupancyGrid(BOX, 8, step_size=0.5)
    diagonal = 2.0 * math.sqrt(3.0)
    assert grid.step_size == pytest.approx(diagonal / 1024) and set_by_hand.step_size == 0.5
    o, d = rays(4)
    samples = grid.sampling(o, d)
    torch.testing.assert_close(
        samples.t_ends - samples.t_starts, torch.full_like(samples.t_ends, diagonal / 1024), rtol=1e-3, atol=0
    )
    threshold = 0.01 / grid.step_size
    grid.update(lambda x: threshold * torch.where(x[:, 0] < 0, 0.9, torch.where(x[:, 1] < 0, 1.1, 9.0)), step=0)
    assert grid.occupied_fraction() == 0.5
    with pytest.raises(ValueError, match=r"^\[OccupancyGrid\] step_size .*got 0"):
        nn.OccupancyGrid(BOX, 8, step_size=0.0)


def test_an_update_is_drawn_by_its_number() -> None:
    """Without a seed, other updates look at other places, and the same one at the same."""
    places: list[torch.Tensor] = []
    for step in (0, 1, 1):
        grid = nn.OccupancyGrid(BOX, 8)
        grid.update(lambda x: places.append(x) or torch.zeros(len(x)), step=step)
    assert torch.equal(places[1], places[2]) and not torch.equal(places[0], places[1])


TIMES = {"t_starts": torch.zeros(2), "t_ends": torch.ones(2), "ray_indices": torch.tensor([0, 1]), "n_rays": 2}


def two_colors(*_: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.zeros(2, 3), torch.zeros(2)


@pytest.mark.parametrize(
    ("change", "error", "name", "value"),
    [
        ({}, ValueError, "rgb_sigma_fn or rgb_alpha_fn", "neither"),
        ({"rgb_sigma_fn": two_colors, "rgb_alpha_fn": two_colors}, ValueError, "rgb_sigma_fn or rgb_alpha_fn", "both"),
        (
            {"rgb_sigma_fn": two_colors, "ray_indices": torch.tensor([0, 1]).int()},
            TypeError,
            "ray_indices",
            "torch.int32",
        ),
        ({"rgb_sigma_fn": two_colors, "ray_indices": [0, 1]}, TypeError, "ray_indices", "list"),
        ({"rgb_sigma_fn": two_colors, "ray_indices": torch.tensor([0])}, ValueError, "ray_indices", "(1,)"),
        ({"rgb_sigma_fn": two_colors, "n_rays": -1}, ValueError, "n_rays", "-1"),
        ({"rgb_sigma_fn": two_colors, "packed_info": torch.zeros(3, 2).int()}, ValueError, "packed_info", "(3, 2)"),
        (
            {"rgb_alpha_fn": lambda *_: (torch.zeros(2, 3), torch.zeros(2, 1))},
            ValueError,
            "rgb_alpha_fn",
            "(2, 3) and (2, 1)",
        ),
        (
            {"rgb_sigma_fn": lambda *_: (torch.zeros(2), torch.zeros(2))},
            ValueError,
            "rgb_sigma_fn",
            "(2,) and (2,)",
        ),
    ],
)
def test_bad_arguments_of_render(change: dict, error: type[Exception], name: str, value: str) -> None:
    with pytest.raises(error, match=refusal("render", name, value)):
        nn.render(**(TIMES | change))


@pytest.mark.parametrize(
    ("change", "name", "value"),
    [
        ({"alpha_threshold": 1.0}, "alpha_threshold", "1.0"),
        ({"sigma_fn": lambda t, *_: t[:, None]}, "sigma_fn", r"\(\d+, 1\)"),
        ({"sigma_fn": lambda t, *_: t, "early_stop_eps": 1.0}, "early_stop_eps", "1.0"),
        ({"step_size": 0.0}, "step_size", "0.0"),
    ],
)
def test_bad_arguments_of_sampling(change: dict, name: str, value: str) -> None:
    with pytest.raises(ValueError, match=rf"^\[\w+\] {name} .*got {value}"):
        grid_with_a_hole().sampling(*rays(), **change)
