"""Spherical harmonics: ``metal/sh.metal``, specified by ``nerf_metal/reference/sh.py``."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from nerf_metal import kernels, reference
from nerf_metal.ops.checks import check_count, check_kernel_dtype, check_vectors, constant

MAX_DEGREE = 4
"""The most bands that the kernels know."""
# A GPU's thread writes the 64 bytes of one direction. On the host a thread is a loop long enough to be whole vectors,
# and 256 of them share a batch of 65 536 evenly.
_HOST_DIRECTIONS_PER_THREAD = 256


def spherical_harmonics(directions: torch.Tensor, degree: int = 4, *, backend: str = "auto") -> torch.Tensor:
    """Evaluate the real spherical harmonics of directions.

    :func:`nerf_metal.reference.spherical_harmonics` has their formulas, order and signs. The gradient to ``directions``
    is that of the polynomials. Only the ``torch`` backend has second derivatives.

    Args:
        directions: ``[N, 3]``, unit length (neither checked nor corrected), float32 (the ``torch`` backend takes any
            float dtype).
        degree: number of bands, 1 to 4.
        backend: ``"auto"``, ``"metal"``, ``"host"`` or ``"torch"``.

    Returns:
        Values ``[N, degree ** 2]``, in the dtype of ``directions``.

    Raises:
        ValueError: if the shape or the degree is wrong, or if the backend cannot be used.
        TypeError: if a type or dtype is wrong.
    """
    op = "spherical_harmonics"
    check_vectors(op, "directions", directions, "N")
    if check_count(op, "degree", degree) > MAX_DEGREE:
        raise ValueError(f"[{op}] degree must be at most {MAX_DEGREE}, got {degree}; it counts bands from 1")
    backend = kernels.resolve(op, backend, directions)
    # float16 directions are too coarse for the third band: auto leaves them to the reference
    check_kernel_dtype(op, "directions", directions, backend)
    if backend == "torch":
        return reference.spherical_harmonics(directions, degree)
    values: torch.Tensor = _SphericalHarmonics.apply(directions, degree, backend)
    return values


class _SphericalHarmonics(torch.autograd.Function):
    """The two kernels as one differentiable function."""

    @staticmethod
    def forward(ctx: Any, directions: torch.Tensor, degree: int, backend: str) -> torch.Tensor:
        directions = constant(directions)
        values = directions.new_empty((len(directions), degree * degree))
        ctx.save_for_backward(directions)
        ctx.degree, ctx.backend = degree, backend
        _launch("sh_forward_f32", [directions, values], degree, backend)
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (directions,) = ctx.saved_tensors
        grad_directions = torch.empty_like(directions)
        _launch("sh_backward_f32", [directions, grad.contiguous(), grad_directions], ctx.degree, ctx.backend)
        return grad_directions, None, None


def _launch(kernel: str, buffers: list[torch.Tensor], degree: int, backend: str) -> None:
    count = len(buffers[0])
    per_thread = 1 if backend == "metal" else _HOST_DIRECTIONS_PER_THREAD
    params = {"n_directions": count, "degree": degree, "directions_per_thread": per_thread}
    kernels.launch(kernel, buffers, params, (-(-count // per_thread),), backend=backend)
