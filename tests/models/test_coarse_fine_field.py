"""The NeRF network: chunks, activations, direction and position."""

import pytest
import torch

from nerf_metal.models.coarse_fine import field as fields
from nerf_metal.models.coarse_fine.field import CoarseFineField, NerfField
from nerf_metal.util.errors import InputError


def make_field(**changes) -> NerfField:
    """A small network with fixed weights."""
    torch.manual_seed(0)
    options = {
        "hidden_width": 16,
        "depth": 3,
        "skip": 2,
        "position_bands": 3,
        "direction_bands": 1,
        "density_activation": "softplus",
    }
    return NerfField(**{**options, **changes})


def some_input(rays: int = 7, samples: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions in the box and unit directions."""
    generator = torch.Generator().manual_seed(1)
    positions = torch.rand(rays, samples, 3, generator=generator) * 2 - 1
    directions = torch.nn.functional.normalize(torch.randn(rays, 3, generator=generator), dim=-1)
    return positions, directions


@pytest.mark.parametrize("rows", [5, 11, 35])
def test_chunks_change_nothing(monkeypatch, rows):
    """Values and gradients are those of one call, however many calls there are."""
    field, (positions, directions) = make_field(), some_input()

    def evaluate() -> tuple[torch.Tensor, torch.Tensor]:
        field.zero_grad()
        output = field(positions, directions)
        (output.rgbs.sum() + output.sigmas.sum()).backward()
        return torch.cat((output.rgbs.flatten(), output.sigmas.flatten())), field.trunk[0].weight.grad.clone()

    expected = evaluate()
    monkeypatch.setattr(fields, "CPU_ROWS", rows)
    for got, want in zip(evaluate(), expected, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_no_linear_sees_more_rows_than_it_may(device):
    """Every Linear of a large call gets 2-D contiguous input of at most MAX_ROWS rows, on any device."""
    field, (positions, directions) = make_field().to(device), some_input(rays=700, samples=100)
    seen = []
    for module in field.modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    field(positions.to(device), directions.to(device))
    assert all(x.ndim == 2 and x.is_contiguous() for x in seen)
    assert max(len(x) for x in seen) <= fields.MAX_ROWS < 32_767


def test_a_ray_that_is_too_long_is_refused():
    """A single ray cannot be split: say so instead of going over the limit."""
    with pytest.raises(InputError, match=r"\[NerfField\] samples of a ray must be at most 32766, got 32767; "):
        make_field()(torch.zeros(1, 32_767, 3), torch.zeros(1, 3))


def test_density_sees_no_direction_and_color_does():
    """Density is a function of position alone (Mildenhall et al. 2020, section 3); colour is not."""
    field, (positions, directions) = make_field(), some_input()
    one, other = field(positions, directions), field(positions, -directions)
    torch.testing.assert_close(one.sigmas, other.sigmas, rtol=0, atol=0)
    assert (one.rgbs - other.rgbs).abs().max() > 1e-4


def test_skip_brings_the_position_back():
    """The layer behind the skip is wider by the encoding and really uses it."""
    field, (positions, directions) = make_field(), some_input()
    assert [layer.in_features for layer in field.trunk] == [21, 16, 16 + 21]
    before = field(positions, directions).sigmas
    with torch.no_grad():
        field.trunk[2].weight[:, :21] += 1.0
    assert (field(positions, directions).sigmas - before).abs().max() > 1e-3
    assert [layer.in_features for layer in make_field(skip=0).trunk] == [21, 16, 16]


@pytest.mark.parametrize("name", ["softplus", "trunc_exp"])
def test_safe_densities_learn_from_far_below_zero(name):
    """Where a ReLU is dead for good, the others still have a gradient."""
    x = torch.tensor([-4.0], requires_grad=True)
    fields.DENSITY_ACTIVATIONS[name](x).backward()
    assert x.grad > 1e-3
    dead = torch.tensor([-4.0], requires_grad=True)
    fields.DENSITY_ACTIVATIONS["relu"](dead).backward()
    assert dead.grad == 0


def test_softplus_is_shifted():
    """softplus(x - 1), by hand at x = 1: log 2."""
    value = fields.DENSITY_ACTIVATIONS["softplus"](torch.tensor(1.0))
    torch.testing.assert_close(value, torch.tensor(0.6931472))


def test_trunc_exp_gradient_is_cut():
    """The value is exp(x - 1), the gradient no more than exp(15)."""
    x = torch.tensor([2.0, 31.0], requires_grad=True)
    y = fields.DENSITY_ACTIVATIONS["trunc_exp"](x)
    y.sum().backward()
    torch.testing.assert_close(y.detach(), torch.tensor([1.0, 30.0]).exp())
    torch.testing.assert_close(x.grad, torch.tensor([1.0, 15.0]).exp())


def test_unknown_activation_is_refused():
    """The message lists the known names."""
    with pytest.raises(InputError, match=r"density_activation must be one of .*, got 'swish'; use softplus"):
        make_field(density_activation="swish")


def test_box_is_normalised_axis_by_axis():
    """Corners go to corners, and the box is part of the weights."""
    aabb = torch.tensor([[-1.0, 0.0, 2.0], [1.0, 4.0, 3.0]])
    model = CoarseFineField(
        aabb,
        hidden_width=4,
        depth=1,
        skip=0,
        position_bands=1,
        direction_bands=0,
        density_activation="softplus",
    )
    points = torch.stack((aabb[0], aabb[1], aabb.mean(0)))
    expected = torch.tensor([[-1.0] * 3, [1.0] * 3, [0.0] * 3])
    torch.testing.assert_close(model.normalized(points), expected, rtol=0, atol=1e-6)
    assert "aabb" in model.state_dict()
