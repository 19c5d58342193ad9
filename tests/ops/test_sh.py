"""Spherical harmonics: values worked by hand on every backend, then the reference, then the kernels against it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from nerf_metal import kernels, ops
from nerf_metal.reference import spherical_harmonics
from nerf_metal.selftest.modes import HOST, METAL, Mode
from nerf_metal.selftest.sh import SH_CASES, ShCase, compare_sh, run_sh
from nerf_metal.selftest.tolerances import EPS, FLOAT64, close
from tests.ops.guards import Guarded
from tests.ops.modes import ALL_PLAIN_MODES, ON_METAL, PLAIN_KERNEL_MODES
from tests.refusals import refusal

DEGREES = pytest.mark.parametrize("degree", [1, 2, 3, 4])


CASES = pytest.mark.parametrize("case", SH_CASES, ids=lambda case: case.name)


# ---- values by hand ----
S0, S1 = 0.28209479, 0.48860251  # sqrt(1 / 4 pi), sqrt(3 / 4 pi)
GOLDEN = {
    # On an axis only the terms of that axis are left: of band 2 sqrt(5 / 16 pi) (3 z^2 - 1) and
    # sqrt(15 / 16 pi) (x^2 - y^2), of band 3 those of x^3, y^3 and z^3 and, with z = 0, sqrt(21 / 32 pi) y and x.
    (1.0, 0.0, 0.0): [S0, 0, 0, -S1, 0, 0, -0.31539157, 0, 0.54627422, 0, 0, 0, 0, 0.45704580, 0, -0.59004359],
    (0.0, 1.0, 0.0): [S0, -S1, 0, 0, 0, 0, -0.31539157, 0, -0.54627422, 0.59004359, 0, 0.45704580, 0, 0, 0, 0],
    (0.0, 0.0, 1.0): [S0, 0, S1, 0, 0, 0, 0.63078313, 0, 0, 0, 0, 0, 0.74635267, 0, 0, 0],
    # Between x and z: sqrt(15 / 4 pi) x z = 0.52442325, sqrt(105 / 16 pi) z x^2 = 0.41624805, ring 1 - 5 z^2 = -2.2.
    (0.6, 0.0, 0.8): [
        *(S0, 0, 0.39088201, -0.29316151),
        *(0, 0, 0.29016024, -0.52442325, 0.19665872),
        *(0, 0, 0, 0.05970821, -0.60330046, 0.41624805, -0.12744942),
    ],
    # x y = 0.3072, y z = 0.384, x z = 0.288, ring -0.8, x^2 - y^2 = -0.1792, 3 z^2 - 1 = 0.08.
    (0.48, 0.64, 0.6): [
        *(S0, -0.31270561, 0.29316151, -0.23452921),
        *(0.33563088, -0.41953860, 0.02523133, -0.31465395, -0.09789234),
        *(-0.10634002, 0.53279750, -0.23400745, -0.26868696, -0.17550559, -0.15539927, 0.28276777),
    ],
}


@ALL_PLAIN_MODES
@DEGREES
@pytest.mark.parametrize("direction", GOLDEN)
def test_values_worked_by_hand(direction: tuple[float, ...], degree: int, mode: Mode) -> None:
    with mode.active() as backend:
        got = ops.spherical_harmonics(torch.tensor([direction]), degree, backend=backend)
    # the digits written above, and float32's rounding of the direction
    close(got, torch.tensor([GOLDEN[direction][: degree**2]]), "values", 1e-7 + 4 * EPS)


@ALL_PLAIN_MODES
def test_a_gradient_worked_by_hand(mode: Mode) -> None:
    # Y_2^-2 = a x y and Y_3^-2 = b x y z at (1, 2, 3), not of unit length: gradients a (y, x, 0), b (y z, x z, x y).
    direction = torch.tensor([[1.0, 2.0, 3.0]], requires_grad=True)
    grad = torch.zeros(1, 16)
    grad[0, 4], grad[0, 10] = 1.0, 1.0
    with mode.active() as backend:
        values = ops.spherical_harmonics(direction, backend=backend)
        (got,) = torch.autograd.grad(values, direction, grad)
    a, b = 1.09254843, 2.89061144
    close(got, torch.tensor([[2 * a + 6 * b, a + 3 * b, 2 * b]]), "grad", 40 * EPS)


# ---- the reference ----
def sphere() -> tuple[torch.Tensor, torch.Tensor]:
    """Directions and weights of a quadrature that is exact for polynomials up to degree 7 on the sphere."""
    z, weight = (torch.from_numpy(x) for x in np.polynomial.legendre.leggauss(4))
    phi = torch.arange(8, dtype=torch.float64) * (2 * math.pi / 8)
    z, phi, weight = z.repeat_interleave(8), phi.repeat(4), weight.repeat_interleave(8) * (2 * math.pi / 8)
    radius = (1 - z * z).sqrt()
    return torch.stack((radius * phi.cos(), radius * phi.sin(), z), -1), weight


@DEGREES
def test_reference_components_are_orthonormal_over_the_sphere(degree: int) -> None:
    directions, weight = sphere()
    values = spherical_harmonics(directions, degree)
    gram = values.T @ (values * weight[:, None])
    close(gram, torch.eye(degree**2, dtype=torch.float64), "gram", FLOAT64)


def test_reference_bands_keep_their_length_under_rotation() -> None:
    # Unsoeld: the squares of band l add up to (2 l + 1) / 4 pi, whatever the direction.
    directions = ShCase("", 200, 4).build()[0].double()
    values = spherical_harmonics(torch.nn.functional.normalize(directions, dim=-1), 4)
    for band in range(4):
        length = values[:, band**2 : (band + 1) ** 2].square().sum(-1)
        want = torch.full_like(length, (2 * band + 1) / (4 * math.pi))
        close(length, want, f"band {band}", FLOAT64)


def test_reference_lower_degrees_are_the_first_components() -> None:
    directions = ShCase("", 50, 4).build()[0].double()
    values = spherical_harmonics(directions, 4)
    for degree in (1, 2, 3):
        assert torch.equal(spherical_harmonics(directions, degree), values[:, : degree**2])
    assert torch.equal(spherical_harmonics(directions), values)


def test_reference_opposite_directions_differ_by_the_sign_of_odd_bands() -> None:
    directions = ShCase("", 50, 4).build()[0].double()
    sign = torch.tensor([(-1.0) ** band for band in range(4) for _ in range(2 * band + 1)], dtype=torch.float64)
    assert torch.equal(spherical_harmonics(-directions, 4), spherical_harmonics(directions, 4) * sign)


def test_reference_polynomials_are_legendres_functions() -> None:
    # The definition: sqrt(2) (-1)^m N_lm P_l^|m|(z) with cos(m phi), or sin for m < 0; (x + i y)^|m| holds both and the
    # power of sin(theta) of P_l^|m|, whose rest is the |m|-th derivative of Legendre's polynomial.
    directions = sphere()[0]
    x, y, z = directions.numpy().T
    columns = []
    for band in range(4):
        for m in range(-band, band + 1):
            order = abs(m)
            ratio = math.factorial(band - order) / math.factorial(band + order)
            norm = math.sqrt((2 * band + 1) / (4 * math.pi) * ratio)
            turn = (x + 1j * y) ** order
            along = np.polynomial.legendre.Legendre.basis(band).deriv(order)(z)
            real = along if m == 0 else math.sqrt(2) * (-1) ** order * along * (turn.real if m > 0 else turn.imag)
            columns.append(norm * real)
    close(spherical_harmonics(directions), torch.from_numpy(np.stack(columns, -1)), "values", FLOAT64)


@DEGREES
def test_reference_gradients_are_finite_differences(degree: int) -> None:
    # Of any length: the function is the polynomial.
    directions = torch.randn((6, 3), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda d: spherical_harmonics(d, degree) + 0.0 * d[:, :1], [directions.requires_grad_()]
    )


# ---- the kernels ----
@PLAIN_KERNEL_MODES
@CASES
def test_values_and_gradients_are_the_references(case: ShCase, mode: Mode) -> None:
    compare_sh(case, run_sh(case, mode))


@ON_METAL
def test_metal_values_and_gradients_are_the_references() -> None:
    for case in SH_CASES:
        compare_sh(case, run_sh(case, METAL))


@PLAIN_KERNEL_MODES
@CASES
@pytest.mark.parametrize("per_thread", [1, 5, 16, 40, 1000])
def test_threads_of_any_size_write_every_direction_and_nothing_else(per_thread: int, case: ShCase, mode: Mode) -> None:
    guarded = Guarded()
    directions, grad = (guarded.place(x) for x in case.build())
    values, grad_directions = guarded.unfilled((case.count, case.degree**2)), guarded.unfilled((case.count, 3))
    params = {"n_directions": case.count, "degree": case.degree, "directions_per_thread": per_thread}
    grid = (-(-case.count // per_thread),)
    with mode.active() as backend:
        kernels.launch("sh_forward_f32", [directions, values], params, grid, backend=backend)
        kernels.launch("sh_backward_f32", [directions, grad, grad_directions], params, grid, backend=backend)
    guarded.check()
    compare_sh(case, {"values": values, "grad": grad_directions})


@PLAIN_KERNEL_MODES
@pytest.mark.parametrize("degree", [0, 5, 64])
def test_other_degrees_write_nothing(degree: int, mode: Mode) -> None:
    directions, room = torch.ones(3, 3), torch.full((3, degree**2), 7.0)
    params = {"n_directions": 3, "degree": degree, "directions_per_thread": 2}
    grads = torch.full((3, 3), 7.0)
    with mode.active() as backend:
        kernels.launch("sh_forward_f32", [directions, room], params, (2,), backend=backend)
        kernels.launch("sh_backward_f32", [directions, room, grads], params, (2,), backend=backend)
    assert (room == 7).all() and (grads == 7).all()


@PLAIN_KERNEL_MODES
def test_directions_and_gradients_may_be_views(mode: Mode) -> None:
    case = ShCase("", 33, 4)
    directions, grad = case.build()
    wide = torch.nn.functional.pad(directions, (2, 1), value=float("nan"))[:, 2:5].requires_grad_()
    with mode.active() as backend:
        values = ops.spherical_harmonics(wide, backend=backend)
        (got,) = torch.autograd.grad(values, wide, grad.T.contiguous().T)
        (spread,) = torch.autograd.grad(ops.spherical_harmonics(wide, backend=backend), wide, grad[:1].expand(33, 16))
        (copied,) = torch.autograd.grad(ops.spherical_harmonics(wide, backend=backend), wide, grad[:1].repeat(33, 1))
    want = run_sh(case, mode)
    assert torch.equal(values, want["values"]) and torch.equal(got, want["grad"]) and torch.equal(spread, copied)


def test_more_threads_change_no_bit() -> None:
    case = ShCase("", 20000, 4)
    alone = run_sh(case, HOST)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        together = run_sh(case, HOST)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(value, together[name]) for name, value in alone.items())


# ---- bad arguments ----
@pytest.mark.parametrize(
    ("change", "error", "name", "value"),
    [
        ({"directions": [0.0, 0.0, 1.0]}, TypeError, "directions", "list"),
        (
            {"directions": torch.zeros(4, 3, dtype=torch.int64)},
            TypeError,
            "directions",
            "torch.int64",
        ),
        ({"directions": torch.zeros(3)}, ValueError, "directions", "(3,)"),
        ({"directions": torch.zeros(4, 2)}, ValueError, "directions", "(4, 2)"),
        ({"degree": 0}, ValueError, "degree", "0"),
        ({"degree": 5}, ValueError, "degree", "5"),
        ({"degree": 2.0}, TypeError, "degree", "float"),
        ({"backend": "cuda"}, ValueError, "backend", "cuda"),
        (
            {"directions": torch.zeros(4, 3).half(), "backend": "host"},
            TypeError,
            "directions",
            "torch.float16",
        ),
    ],
)
def test_op_refuses_by_name_and_value(change: dict[str, object], error: type[Exception], name: str, value: str) -> None:
    with pytest.raises(error, match=refusal("spherical_harmonics", name, value)):
        ops.spherical_harmonics(**({"directions": torch.zeros(4, 3)} | change))


def test_auto_leaves_other_float_types_to_the_reference() -> None:
    assert ops.spherical_harmonics(torch.zeros(2, 3, dtype=torch.float64)).dtype == torch.float64
