"""How far a kernel's float32 may lie from the float64 reference: the only place with such numbers, for the tests and
the self-test alike, beside ``nerf_metal/util/rounding.py``, which has those of sums of products.

Every bound is relative to a magnitude that belongs to the entry itself (the sum of the absolute values of the terms
it is made of), so that a small entry next to a large one is still tested. ``EPS`` is the distance from 1 to the next
float32, twice the rounding error of one operation. "worst" is the largest error over tolerance seen over all named
cases, kernels, lane orders and x86-64 instruction sets: 1 is the limit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from nerf_metal.util.rounding import EPS

# Below the least normal float32 a GPU may flush: that much absolute error per term is nobody's fault.
TINY = 2.0**-126
HALF_EPS = 2.0**-11  # half: relative error of rounding to nearest
HALF_DENORMAL = 2.0**-24  # and the step between its denormals, 6e-8

# exp(-tau), the transmittance of one interval: metal/composite.h promises 2 ulp. Worst 0.50, in a million points.
EXP_ULPS = 2.0
# alpha = (1 - s) - s p of one interval, at every depth: tau, p and the difference each half an EPS off, p's polynomial
# a quarter. Worst 0.42, in a million points.
ALPHA = 1.75 * EPS
# Ray-box bounds: a subtraction, a reciprocal and a product, half an EPS each. Worst 0.56.
BOUNDS = 2.0 * EPS
# Edges: jitter, scale, length, sum: under eight roundings of numbers no greater than t_max. Worst 0.31.
EDGES = 4.0 * EPS
# In disparity the roundings are those of 1 / t, at most 1 / t_min, so that t's are t / t_min times greater. Worst 0.21.
DISPARITY = 4.0 * EPS
# Importance, in the mass of the density: K roundings of a running sum that is half the whole on average, K / 4 EPS at
# most. Worst 0.15.
CDF_PER_INTERVAL = 0.25 * EPS
CDF_BASE = 2.0 * EPS
# Importance, in t, where no interval is much fainter than the others: the mass's error over their density. Worst 0.30.
DRAWN = 16.0 * EPS
# A place in a cell: under eight roundings of numbers no greater than its cascade. Worst 0.33.
CELL_PLACE = 4.0 * EPS
# A density that fades: the decay as a float32 and one product, half an EPS each. Worst 0.60.
DENSITY = EPS
# The mean of densities, half an EPS of the running sum each: most roundings cancel, or the sum is made in blocks.
MEAN = 8.0 * EPS
# A place on a ray: a sum of times, its half, a product, a sum, half an EPS each. Worst 0.38.
POSITION = 2.0 * EPS
# Traversal, in t and in the place that decides: relative to origin, box and t together, eight roundings of such
# numbers. Steps that grow gather one more each. Worst 0.29 and 0.16; no decision differs in the named cases.
TRAVERSED = 4.0 * EPS
TRAVERSED_PER_STEP = 0.5 * EPS

# Compositing. A product of K factors keep, whose errors (2 ulp of exp at worst, the product's rounding) mostly cancel:
# half an EPS each; and EPS * -log T for the rounding of tau in the exponent. Worst: transmittance 0.21, weights 0.25,
# opacity 0.18, rgb 0.18, depth 0.22; gradients to values 0.38, colours 0.26, background 0.10. Gradients in half 0.98:
# their tolerance is little more than the rounding to half.
PRODUCT_PER_SAMPLE = 0.5 * EPS
PRODUCT_BASE = 4.0 * EPS

# Spherical harmonics: a polynomial of third degree, six roundings of half an EPS at most. Worst 0.54.
SH = 3.0 * EPS
# Its gradient: four roundings in each term, and the running sum of up to eight of them. Worst 0.27.
SH_GRADIENT = 6.0 * EPS


# Adam's moments, relative to the sum of both terms' magnitudes: the decay, the weight, the products, the sum, half an
# EPS each. Worst 0.45.
ADAM_MOMENT = 2.5 * EPS
# What it adds to a value, relative to itself with the first moment's terms positive: both moments' errors, that of the
# second halved by the root, and seven roundings on the way. Worst 0.28; 0.49 where the value's own rounding
# is larger.
ADAM_UPDATE = 8.0 * EPS


# Sigmoid, beyond the error of its argument: exp's two ulp, a sum and a division.
SIGMOID = 3.0 * EPS
# And its derivative y (1 - y) dL/dy: a difference and two products.
SIGMOID_SLOPE = 2.0 * EPS

# Hash grid: a place x N + 1/2 in cells of which there are N, two roundings of numbers up to N.
HASHGRID_PLACE = EPS  # times N
# A weight, times an entry, in a sum of eight: three roundings, one, and eight. Worst 0.27.
HASHGRID = 6.0 * EPS
# Each addend of an entry's gradient: half an EPS of the running sum. Worst 0.46; 0.96 in half, most of it the rounding.
HASHGRID_PER_ADDEND = 0.5 * EPS
# Slopes: differences of two corners interpolated twice, times N; half an EPS more for every feature and level.
# Worst 0.19.
HASHGRID_SLOPE = 6.0 * EPS

# Rounding of a float64 sum in the reference's own formulas, against a formula worked differently.
FLOAT64 = 1e-12
# Uniformity: 256 bins have a chi-square of 255 with a deviation of 22.6; five deviations either side.
CHI_SQUARE_255 = (142.0, 368.0)
# A histogram of n draws with jitter inside each of n equal strata is off by less than one stratum at both ends.
HISTOGRAM_STRATA = 2.0


class MismatchError(AssertionError):
    """A result that is not what it must be.

    Attributes:
        ratio: the worst error over its tolerance; infinite where there is no such number.
    """

    def __init__(self, message: str, ratio: float = float("inf")) -> None:
        """Keep the ratio beside the message."""
        super().__init__(message)
        self.ratio = ratio


def require(condition: bool | torch.Tensor, message: str) -> None:
    """Raise :class:`MismatchError` unless the condition holds."""
    if not condition:
        raise MismatchError(message)


@dataclass(frozen=True)
class Worst:
    """The entry furthest from its expectation, in units of its tolerance."""

    kind: str
    ratio: float
    text: str


def worst(kind: str, actual: torch.Tensor, expected: torch.Tensor, tolerance: torch.Tensor | float) -> Worst:
    """Compare entry by entry; shapes must be equal and NaN counts as infinitely far."""
    if actual.shape != expected.shape:
        return Worst(kind, float("inf"), f"shape {tuple(actual.shape)} instead of {tuple(expected.shape)}")
    if actual.numel() == 0:
        return Worst(kind, 0.0, "no entries")
    got, want = (x.detach().cpu().double() for x in (actual, expected))  # in this order: MPS has no float64
    limit = torch.as_tensor(tolerance, dtype=torch.float64).expand_as(want)
    error = torch.where(got == want, torch.zeros_like(want), (got - want).abs())  # inf equals inf
    ratio = (error / limit).nan_to_num(nan=float("inf"), posinf=float("inf"))
    ratio = torch.where(error == 0, torch.zeros_like(ratio), ratio)
    at = int(ratio.argmax())
    place = tuple(int(i) for i in torch.unravel_index(torch.tensor(at), want.shape)) if want.dim() else ()
    entry = [x.reshape(-1)[at].item() for x in (got, want, limit)]
    text = f"at {place}: {entry[0]:.9g} instead of {entry[1]:.9g}, tolerance {entry[2]:.3g}"
    return Worst(kind, float(ratio.reshape(-1)[at]), text)


def close(
    actual: torch.Tensor, expected: torch.Tensor, kind: str, tolerance: torch.Tensor | float, where: str = ""
) -> float:
    """Fail with the worst entry where one lies outside its tolerance; else the worst error over tolerance."""
    found = worst(kind, actual, expected, tolerance)
    if not found.ratio <= 1.0:
        raise MismatchError(f"{where} {kind}: {found.ratio:.3g} times the tolerance {found.text}", found.ratio)
    return found.ratio


def all_close(
    actual: Mapping[str, torch.Tensor | None],
    expected: Mapping[str, torch.Tensor],
    tolerance: Mapping[str, torch.Tensor],
    where: str = "",
) -> dict[str, float]:
    """:func:`close` over named tensors; the names that were compared, with their worst ratios."""
    ratios = {}
    for kind, want in expected.items():
        got = actual[kind]
        if got is None:
            raise MismatchError(f"{where} {kind} is missing")
        ratios[kind] = close(got, want, kind, tolerance[kind], where)
    return ratios


def product(samples: int, log_product: torch.Tensor | float = 0.0) -> torch.Tensor:
    """Relative error of a transmittance behind so many samples, or of a sum of terms that carry one."""
    return torch.as_tensor(PRODUCT_BASE + PRODUCT_PER_SAMPLE * samples) + EPS * torch.as_tensor(log_product)


def rounded_to_half(expected: torch.Tensor, tolerance: torch.Tensor) -> torch.Tensor:
    """The tolerance of a value that is stored as half after all else."""
    return tolerance + HALF_EPS * expected.abs() + HALF_DENORMAL


# Gradients of a whole training step relative to the largest of each tensor: a sample's rounding errors, each layer's
# sums of up to 32 products and the transmittance's product of up to 64 factors, EPS apiece, at most add up: 200 EPS.
TRAINING_STEP = 200 * EPS

# Torch's own ops on a device, relative to the largest entry. Element by element: Metal's precise functions are within
# 4 ulp, and a few of them follow one another. What is wrong there is wrong by far more.
TORCH_ELEMENTWISE = 16.0 * EPS
