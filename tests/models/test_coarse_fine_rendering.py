"""Rendering: the story from rays to pictures, on networks whose answer is known."""

import pytest
import torch

from nerf_metal.data.hull import tight_box
from nerf_metal.models import memory
from nerf_metal.models.coarse_fine.field import CoarseFineField, FieldOutput
from nerf_metal.models.coarse_fine.rendering import render_image, render_rays
from nerf_metal.models.coarse_fine.sampler import Sampler
from nerf_metal.util.errors import InputError

BOX = torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])
SAMPLER = Sampler(num_samples=16, num_importance=16, near=0.0, far=10.0)
WHITE = torch.ones(3)


def make_model(aabb: torch.Tensor = BOX, **changes) -> CoarseFineField:
    """A small pair of networks."""
    torch.manual_seed(0)
    options = {
        "hidden_width": 32,
        "depth": 2,
        "skip": 0,
        "position_bands": 4,
        "direction_bands": 1,
        "density_activation": "softplus",
    }
    return CoarseFineField(aabb, **{**options, **changes})


class Slab(torch.nn.Module):
    """Density ``sigma`` for z in [-0.5, 0.5] of normalised space, red."""

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.sigma = sigma

    def forward(self, positions: torch.Tensor, directions: torch.Tensor) -> FieldOutput:
        """As NerfField's."""
        inside = (positions[..., 2].abs() <= 0.5).float()
        return FieldOutput(torch.tensor([1.0, 0.0, 0.0]).expand_as(positions), inside * self.sigma)


def rays(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rays down the z axis from z = 3, a fan of x from -2 to 2: the outer half misses the box."""
    x = torch.linspace(-2, 2, count)
    rays_o = torch.stack((x, torch.zeros(count), torch.full((count,), 3.0)), dim=-1)
    return rays_o, torch.tensor([0.0, 0.0, -1.0]).expand(count, 3).contiguous()


def test_slab_has_the_colour_of_its_thickness():
    """Opacity of a slab of density 2 and thickness 1 is 1 - exp(-2), over white; its depth likewise."""
    model = make_model()
    model.coarse = model.fine = Slab(2.0)
    rays_o, rays_d = rays(3)
    fine, coarse = render_rays(model, SAMPLER, rays_o[1:2], rays_d[1:2], background=WHITE)
    transparent = float(torch.exp(torch.tensor(-2.0)))
    for picture in (fine, coarse):
        torch.testing.assert_close(picture.rgb, torch.tensor([[1.0, transparent, transparent]]), rtol=0.02, atol=0.02)
        # The integral of 2 exp(-2 (t - 2.5)) t from 2.5 to 3.5.
        assert float(picture.depth[0]) == pytest.approx(2.4587, abs=0.02)


def test_fine_pass_samples_where_the_coarse_network_saw_something():
    """The fine edges are the coarse ones and as many more, most of them in the slab; the coarse weights
    decide."""
    rays_o, rays_d = rays(3)
    edges = SAMPLER.coarse_edges(rays_o[1:2], rays_d[1:2], BOX, stratified=False, seed=0)
    middles = 0.5 * (edges[:, 1:] + edges[:, :-1])
    weights = ((middles > 2.9) & (middles < 3.1)).float()
    union = SAMPLER.fine_edges(edges, weights, stratified=False, seed=0)
    assert union.shape == (1, 17 + 16)
    assert int(((union > 2.8) & (union < 3.2)).sum()) >= 16
    assert not union.requires_grad


def test_image_equals_its_rays_in_any_chunks():
    """Chunks change nothing, and rays that miss the box are background, exactly."""
    model, (rays_o, rays_d) = make_model(), rays(41)
    whole = render_image(model, SAMPLER, rays_o, rays_d, background=WHITE, rays_per_chunk=41).rgb
    expected = render_rays(model, SAMPLER, rays_o, rays_d, background=WHITE).fine.rgb.clamp(0, 1)
    torch.testing.assert_close(whole, expected.detach(), rtol=1e-5, atol=1e-5)
    parts = render_image(model, SAMPLER, rays_o, rays_d, background=WHITE, rays_per_chunk=7).rgb
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-5)
    missed = rays_o[:, 0].abs() > 1
    assert (whole[missed] == 1).all() and not whole.requires_grad


def test_networks_never_see_rays_that_miss():
    """What misses the box costs nothing."""
    model, (rays_o, rays_d) = make_model(), rays(41)
    seen = []
    model.fine.register_forward_pre_hook(lambda _, args: seen.append(len(args[1])))
    render_image(model, SAMPLER, rays_o, rays_d, background=WHITE, rays_per_chunk=1000)
    assert seen == [int((rays_o[:, 0].abs() <= 1).sum())]


def test_a_picture_of_nothing_is_background():
    """No ray meets the box: a camera that looks away."""
    away = torch.tensor([[0.0, 0.0, 1.0]]).repeat(5, 1)
    picture = render_image(make_model(), SAMPLER, 3.0 * away, away, background=WHITE, rays_per_chunk=2)
    assert torch.equal(picture.rgb, torch.ones(5, 3)) and not picture.opacity.any()


def test_both_networks_learn():
    """Every parameter of both networks gets a gradient from the picture they are responsible for."""
    model, (rays_o, rays_d) = make_model(), rays(9)
    fine, coarse = render_rays(model, SAMPLER, rays_o, rays_d, background=WHITE, stratified=True, seed=3)
    fine.rgb.sum().backward(retain_graph=True)
    assert all(p.grad is None for p in model.coarse.parameters())  # no gradient through the sampling
    coarse.rgb.sum().backward()
    assert all(float(p.grad.abs().sum()) > 0 for p in model.parameters())


@pytest.mark.parametrize(("width", "levels"), [(4, 10), (32, 4), (128, 4), (256, 10)])
def test_memory_estimate_bounds_the_peak(width, levels):
    """The estimate is at least what a step takes, and not more than two and a half times."""
    model, sampler = make_model(hidden_width=width, depth=4, position_bands=levels), Sampler(32, 32, 0.0, 10.0)
    rays_o, rays_d = rays(64)
    rays_o[:, 0] = 0.0

    def step() -> None:
        picture = render_rays(model, sampler, rays_o, rays_d, background=WHITE, stratified=True)
        (picture.fine.rgb.square().mean() + picture.coarse.rgb.square().mean()).backward()

    step()
    with torch.profiler.profile(profile_memory=True) as profile:
        step()
    held = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    estimate = memory.training_bytes_per_ray(model, sampler) * len(rays_o)
    assert peak <= estimate <= 2.5 * peak


def test_memory_that_is_too_small_is_refused():
    """The message says how much is needed."""
    model = make_model()
    per_ray = memory.training_bytes_per_ray(model, SAMPLER)
    assert memory.rays_within(1.0, 0, per_ray) > 1000
    with pytest.raises(InputError, match=r"--max-memory must be at least 2.5 GB .*, got 1; raise it"):
        memory.rays_within(1.0, 2_000_000_000, per_ray)


def test_tight_box_holds_the_cube_and_little_more(cube_scene):
    """The visual hull of a cube from a ring of views: the whole cube inside, most of the space outside
    carved."""
    box = tight_box(cube_scene.splits["train"], cube_scene.aabb)
    assert (box[0] <= torch.tensor([-0.5, -0.4, -0.6])).all() and (box[1] >= torch.tensor([0.5, 0.4, 0.6])).all()
    assert float((box[1] - box[0]).prod()) < 0.35 * 27.0  # 12 views of 16 x 16 pixels see no finer


def test_tight_box_needs_alpha(cube_scene):
    """Without alpha, or where the views contradict each other, the box stays."""
    import dataclasses

    split = cube_scene.splits["train"]
    opaque = dataclasses.replace(split, has_alpha=False)
    assert torch.equal(tight_box(opaque, cube_scene.aabb), cube_scene.aabb)
    empty = dataclasses.replace(split, images=torch.zeros_like(split.images))
    assert torch.equal(tight_box(empty, cube_scene.aabb), cube_scene.aabb)
