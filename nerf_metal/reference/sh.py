"""Spherical harmonics in pure torch: the specification of ``metal/sh.metal``."""

from __future__ import annotations

import math

import torch


def spherical_harmonics(directions: torch.Tensor, degree: int = 4) -> torch.Tensor:
    """Evaluate the real spherical harmonics ``Y_l^m`` for ``l < degree``, as polynomials of ``(x, y, z)``.

    Component ``l (l + 1) + m`` is ``Y_l^m``, ``m`` from ``-l`` to ``l``, with the Condon-Shortley phase ``(-1)^m``. The
    order and the signs are those of Sloan, "Efficient spherical harmonic evaluation" (JCGT 2013), and of instant-ngp
    (Müller et al. 2022, section 5.4). The components are orthonormal over the sphere.

    The polynomials are the harmonics for unit vectors only. Other vectors are neither normalized nor refused: the value
    is that of the polynomial, and the gradient is its derivative.

    Args:
        directions: directions ``[N, 3]`` of unit norm, any float dtype.
        degree: number of degrees ``l``, 1 to 4. The default 4, with 16 components, is that of instant-ngp.

    Returns:
        Components ``[N, degree ** 2]`` in the dtype of ``directions``.
    """
    x, y, z = directions.unbind(-1)
    components = [torch.full_like(x, math.sqrt(1 / math.pi) / 2)]
    if degree > 1:
        c = math.sqrt(3 / math.pi) / 2
        components += [-c * y, c * z, -c * x]
    if degree > 2:
        c, c0 = math.sqrt(15 / math.pi) / 2, math.sqrt(5 / math.pi) / 4
        components += [c * x * y, -c * y * z, c0 * (3 * z * z - 1), -c * x * z, c / 2 * (x * x - y * y)]
    if degree > 3:
        c, c0 = math.sqrt(105 / math.pi) / 2, math.sqrt(7 / math.pi) / 4
        c1, c3 = math.sqrt(42 / math.pi) / 8, math.sqrt(70 / math.pi) / 8
        components += [
            c3 * y * (y * y - 3 * x * x),
            c * x * y * z,
            c1 * y * (1 - 5 * z * z),
            c0 * z * (5 * z * z - 3),
            c1 * x * (1 - 5 * z * z),
            c / 2 * z * (x * x - y * y),
            c3 * x * (3 * y * y - x * x),
        ]
    return torch.stack(components, -1)
