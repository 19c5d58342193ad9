"""Encodings and the network as modules: their widths, first weights, gradients, and equality with the fast preset's."""

from __future__ import annotations

import pytest
import torch

from nerf_metal import nn, ops
from nerf_metal.models.hash_grid.field import HashField

BOX = torch.tensor([[-1.0, -0.8, -1.2], [1.0, 0.8, 1.2]])
SMALL = {"num_levels": 3, "features_per_level": 4, "log2_table_size": 9, "base_resolution": 4, "finest_resolution": 16}


def points(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, generator=torch.Generator().manual_seed(seed))


def test_the_modules_are_the_fast_presets_field_to_the_bit() -> None:
    """The same draws in the same order, and the same values and gradients: a table, then two networks."""
    torch.manual_seed(5)
    field = HashField(BOX, levels=3, features=4, log2_table_size=9, base_resolution=4, finest_resolution=16, width=32)
    after = torch.rand(1)
    torch.manual_seed(5)
    encoding = nn.HashEncoding(**SMALL, grad_in_place=True)
    geometry = nn.FusedMLP(encoding.output_width, 16, 32)
    color = nn.FusedMLP(32, 3, 32, 2, "sigmoid")
    directions = nn.SphericalHarmonics(4)
    assert torch.equal(torch.rand(1), after)
    mine = [encoding.table, *geometry.weights, *color.weights]
    theirs = [field.encoding.table, *field.density_network.weights, *field.color_network.weights]
    assert [p.shape for p in mine] == [p.shape for p in theirs]
    assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))
    x, d = points(50) * 2.0 - 1.0, torch.nn.functional.normalize(points(50, 1) - 0.5, dim=-1)
    for _ in range(2):  # the second time the table's gradient exists already
        values = geometry(encoding((x - BOX[0]) / (BOX[1] - BOX[0])))
        rgb = color(torch.cat((values, directions(d)), -1))
        known = field.geometry(x)
        expected = field.rgbs(known, d, torch.arange(50))
        assert torch.equal(rgb, expected) and torch.equal(values, known.values)
        rgb.sum().backward()
        expected.sum().backward()
        assert all(torch.equal(a.grad, b.grad) for a, b in zip(mine, theirs, strict=True))


def test_first_entries_are_small_and_not_equal() -> None:
    encoding = nn.HashEncoding(**SMALL)
    table = encoding.table.detach()
    assert 0.9e-4 < table.abs().max() <= 1e-4 and abs(table.mean()) < 1e-5
    assert len(table) == ops.hashgrid_entries(encoding.levels)
    assert encoding.output_width == 12 and encoding(points(7)).shape == (7, 12)
    assert set(encoding.state_dict()) == {"table"}


@pytest.mark.parametrize("backend", ["host", "torch"])
@pytest.mark.parametrize("in_place", [False, True])
def test_gradient_in_place_keeps_its_tensor_and_adds(in_place: bool, backend: str) -> None:
    """Two backward passes add up, with and without; a gradient asked for by autograd comes only without."""
    encoding = nn.HashEncoding(**SMALL, grad_in_place=in_place, backend=backend)
    encoding(points(9)).sum().backward()
    once = encoding.table.grad.clone()
    kept = encoding.table.grad
    encoding(points(9)).sum().backward()
    assert encoding.table.grad is kept
    torch.testing.assert_close(kept, 2.0 * once)
    if not in_place:
        (asked,) = torch.autograd.grad(encoding(points(9)).sum(), encoding.table)
        torch.testing.assert_close(asked, once)


@pytest.mark.parametrize("module", [nn.HashEncoding(**SMALL), nn.FusedMLP(3, 5, 16, 2)])
def test_known_results_are_not_computed_again(module: torch.nn.Module) -> None:
    """They are returned as they are, with the gradients of a call of its own."""
    x = points(6)
    with torch.no_grad():
        known = module(x)
    module(x).square().sum().backward()
    expected = [p.grad.clone() for p in module.parameters()]
    module.zero_grad()
    again = module(x, known=known)
    assert again.data_ptr() == known.data_ptr()
    again.square().sum().backward()
    assert all(torch.equal(p.grad, g) for p, g in zip(module.parameters(), expected, strict=True))


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_network_is_linear_layers_with_relu(layers: int) -> None:
    network = nn.FusedMLP(5, 3, 16, layers, "sigmoid")
    assert len(network.weights) == layers + 1 and set(network.state_dict()) == {
        f"weights.{i}" for i in range(layers + 1)
    }
    x = torch.randn(11, 5)
    h = x
    for weight in network.weights[:-1]:
        h = torch.relu(h @ weight.T)
    torch.testing.assert_close(network(x), torch.sigmoid(h @ network.weights[-1].T))


def test_modules_without_samples() -> None:
    """Rays that meet nothing leave no row, and a backward pass through none is no error."""
    encoding, network = nn.HashEncoding(**SMALL), nn.FusedMLP(12, 4)
    out = network(encoding(torch.zeros(0, 3)))
    assert out.shape == (0, 4) and nn.SphericalHarmonics(3)(torch.zeros(0, 3)).shape == (0, 9)
    out.sum().backward()
    assert not encoding.table.grad.any() and not network.weights[0].grad.any()


@pytest.mark.parametrize("make", [lambda: nn.HashEncoding(**SMALL), lambda: nn.FusedMLP(3, 5), nn.SphericalHarmonics])
def test_other_float_types_run_on_the_references(make) -> None:
    module = make().double()
    x = points(6).double()
    result = module(x)
    assert result.dtype == torch.float64
    torch.testing.assert_close(make_backend(module, "torch")(x), result)


def make_backend(module: torch.nn.Module, backend: str) -> torch.nn.Module:
    module.backend = backend
    return module


@pytest.mark.parametrize(
    ("make", "error", "name", "value"),
    [
        (lambda: nn.HashEncoding(features_per_level=3), ValueError, "features_per_level", "3"),
        (lambda: nn.HashEncoding(features_per_level=2.0), TypeError, "features_per_level", "float"),
        (lambda: nn.HashEncoding(0), ValueError, "num_levels", "0"),
        (lambda: nn.HashEncoding(deterministic="yes"), TypeError, "deterministic", "str"),
        (lambda: nn.FusedMLP(0, 3), ValueError, "input_width", "0"),
        (lambda: nn.FusedMLP(3, 129), ValueError, "output_width", "129"),
        (lambda: nn.FusedMLP(3, 3, 256), ValueError, "hidden_width", "256"),
        (lambda: nn.FusedMLP(3, 3, 16, 5), ValueError, "hidden_layers", "5"),
        (lambda: nn.FusedMLP(3, 3, output_activation="tanh"), ValueError, "output_activation", "'tanh'"),
        (lambda: nn.SphericalHarmonics(5), ValueError, "degree", "5"),
        (lambda: nn.FrequencyEncoding(-1), ValueError, "bands", "-1"),
        (lambda: nn.FrequencyEncoding(1, 0), ValueError, "channels", "0"),
        (lambda: nn.FusedMLP(3, 3)(torch.zeros(4, 2)), ValueError, r"weights\[0\]", r"\(64, 3\)"),
    ],
)
def test_bad_arguments(make, error: type[Exception], name: str, value: str) -> None:
    """One line that names the argument and the value."""
    with pytest.raises(error, match=rf"^\[\w+\] {name} .*got {value}"):
        make()
