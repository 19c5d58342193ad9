"""Multiresolution hash encoding: ``metal/hashgrid.metal``, specified by ``nerf_metal/reference/hashgrid.py``."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from nerf_metal import kernels, reference
from nerf_metal.ops.checks import (
    check_contiguous,
    check_count,
    check_dense,
    check_kernel_dtype,
    check_match,
    check_tensor,
    check_vectors,
    constant,
)
from nerf_metal.reference import hashgrid_levels as _levels

FEATURES = (1, 2, 4, 8)
# On the host a thread takes thousands of points of one level, whose entries stay in its cache; on a GPU one.
_HOST_POINTS_PER_THREAD = 2048


def hashgrid_levels(
    num_levels: int, base_resolution: int, finest_resolution: int, log2_table_size: int
) -> torch.Tensor:
    """Return the table of levels of a hash encoding (Müller et al. 2022, eq. 2 and 3).

    :func:`nerf_metal.reference.hashgrid_levels` specifies it. :class:`nerf_metal.nn.HashEncoding` makes it for you.

    Args:
        num_levels: number of levels ``L``, 1 to 64.
        base_resolution: cells of the coarsest level along an axis, at least 1.
        finest_resolution: cells of the finest level along an axis, ``base_resolution`` to 2^20.
        log2_table_size: the largest number of entries of a level, as a power of two, 1 to 24.

    Returns:
        int32 ``[L, 4]`` on the CPU. A row holds a level's resolution, its first entry, its number of entries, and 1 if
        its entries are hashed.

    Raises:
        ValueError: if a number is out of its range.
        TypeError: if a number is not an int.
    """
    op = "hashgrid_levels"
    check_count(op, "num_levels", num_levels)
    check_count(op, "base_resolution", base_resolution)
    check_count(op, "finest_resolution", finest_resolution, least=base_resolution)
    check_count(op, "log2_table_size", log2_table_size)
    limits = (
        ("num_levels", num_levels, 64),  # first entries then fit into an int32
        ("finest_resolution", finest_resolution, 2**20),  # a float32 still has a few bits for the place in a cell
        ("log2_table_size", log2_table_size, 24),
    )
    for name, value, most in limits:
        if value > most:
            raise ValueError(f"[{op}] {name} must be at most {most}, got {value}")
    return _levels(num_levels, base_resolution, finest_resolution, log2_table_size)


def hashgrid_entries(levels: torch.Tensor) -> int:
    """Return the number of entries that the table of a hash encoding needs for all levels together.

    Args:
        levels: int32 ``[L, 4]``, the result of :func:`hashgrid_levels`. If it lies on a GPU, the call waits.
    """
    _, first, entries, _ = levels[-1].tolist()
    return first + entries


def hashgrid_encode(
    positions: torch.Tensor,
    table: torch.Tensor,
    levels: torch.Tensor,
    *,
    deterministic: bool = False,
    known: torch.Tensor | None = None,
    grad_table: torch.Tensor | None = None,
    backend: str = "auto",
) -> torch.Tensor:
    """Encode points by the features of a hash grid at every level (Müller et al. 2022, section 3).

    :func:`nerf_metal.reference.hashgrid_encode` has the equations. Gradients flow to ``table``, and to ``positions`` if
    they require one. The ``host`` backend always sums the table's gradient in the order of the points. On a GPU, float
    atomics add in any order. With ``deterministic``, fixed-point atomics of 64 bits are used instead: their sums are
    equal in every run and exact to 2^-48; each addend is cut at 2^14.

    Args:
        positions: points ``[N, 3]`` in [0, 1], float32 (the ``torch`` backend takes any float dtype). A coordinate
            outside counts as the nearest one inside, and NaN as 0.
        table: entries of all levels ``[entries, F]``, float32 or float16, ``F`` 1, 2, 4 or 8.
        levels: int32 ``[L, 4]``, the result of :func:`hashgrid_levels`, on the device of ``positions``.
        deterministic: make the gradient of the table equal in every run on a GPU too.
        known: the result ``[N, L * F]``, if an earlier call without gradients has given it. It is returned with the
            gradients of a call of its own. The ``torch`` backend computes it again.
        grad_table: shaped like ``table``, with the dtype of ``positions``. The backward pass adds the table's gradient
            to it and returns none, so that a large table needs no new gradient tensor at each step.
        backend: ``"auto"``, ``"metal"``, ``"host"`` or ``"torch"``.

    Returns:
        Features ``[N, L * F]``, float32, level by level.

    Raises:
        ValueError: if a shape or device is wrong, or if the backend cannot be used.
        TypeError: if a type or dtype is wrong.
    """
    op = "hashgrid_encode"
    check_vectors(op, "positions", positions, "N")
    check_tensor(op, "table", table)
    if table.dim() != 2 or table.shape[1] not in FEATURES:
        sizes = ", ".join(map(str, FEATURES))
        raise ValueError(f"[{op}] table must have shape (entries, F) with F one of {sizes}, got {tuple(table.shape)}")
    if not isinstance(levels, torch.Tensor) or levels.dtype != torch.int32:
        got = getattr(levels, "dtype", type(levels).__name__)
        raise TypeError(f"[{op}] levels must be an int32 tensor, got {got}; hashgrid_levels makes it")
    check_dense(op, "levels", levels)
    if levels.dim() != 2 or levels.shape[1] != 4:
        raise ValueError(f"[{op}] levels must have shape (L, 4), got {tuple(levels.shape)}; hashgrid_levels makes it")
    for name, tensor in (("table", table), ("levels", levels)):
        if tensor.device != positions.device:
            raise ValueError(f"[{op}] {name} must be on {positions.device} like positions, got {tensor.device}")
    width = len(levels) * table.shape[1]
    if known is not None:
        check_match(op, "known", known, "positions", positions, (len(positions), width))
    if grad_table is not None:
        check_match(op, "grad_table", grad_table, "positions", positions, tuple(table.shape), " like table")
        check_contiguous(op, "grad_table", grad_table)
    backend = kernels.resolve(op, backend, positions, table)
    check_kernel_dtype(op, "positions", positions, backend)
    check_kernel_dtype(op, "table", table, backend, half=True)
    if backend == "torch":
        if grad_table is not None and table.requires_grad:
            # a leaf of its own, whose gradient autograd adds up in place
            table = table.detach().to(positions.dtype).requires_grad_()
            table.grad = grad_table
        return reference.hashgrid_encode(positions, table, levels)
    features: torch.Tensor = _Hashgrid.apply(positions, table, levels, deterministic, known, grad_table, backend)
    return features


class _Hashgrid(torch.autograd.Function):
    """The encoding as one differentiable function: a forward kernel, and backward kernels for positions and table."""

    @staticmethod
    def forward(
        ctx: Any,
        positions: torch.Tensor,
        table: torch.Tensor,
        levels: torch.Tensor,
        deterministic: bool,
        known: torch.Tensor | None,
        grad_table: torch.Tensor | None,
        backend: str,
    ) -> torch.Tensor:
        positions, table, levels = constant(positions), constant(table), levels.contiguous()
        points, width = len(positions), len(levels) * table.shape[1]
        params = {
            "n_points": points,
            "n_levels": len(levels),
            "n_features": table.shape[1],
            "n_entries": len(table),
            "points_per_thread": 1 if backend == "metal" else _HOST_POINTS_PER_THREAD,
        }
        if known is None:
            features = positions.new_empty((points, width))
            grid = (_threads(params), len(levels))
            buffers = [positions, table, levels, features]
            kernel = f"hashgrid_forward_{_SUFFIX[table.dtype]}"
            kernels.launch(kernel, buffers, params, grid, backend=backend, long_threads=True)
        else:
            features = known.view_as(known)
        ctx.save_for_backward(positions, table, levels)
        ctx.params, ctx.deterministic, ctx.backend, ctx.grad_table = params, deterministic, backend, grad_table
        return features

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_features: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        positions, table, levels = ctx.saved_tensors
        grad_features = grad_features.contiguous()
        grad_positions = grad_table = None
        if ctx.needs_input_grad[0]:
            grad_positions = torch.empty_like(positions)
            buffers = [positions, table, levels, grad_features, grad_positions]
            name = f"hashgrid_backward_positions_{_SUFFIX[table.dtype]}"
            kernels.launch(name, buffers, ctx.params, (_threads(ctx.params),), backend=ctx.backend, long_threads=True)
        if ctx.needs_input_grad[1]:
            into = ctx.grad_table
            if into is None:
                into = torch.zeros(table.shape, dtype=torch.float32, device=table.device)
            _table_gradient(ctx, positions, grad_features, levels, into)
            grad_table = into.to(table.dtype) if ctx.grad_table is None else None
        return grad_positions, grad_table, None, None, None, None, None


_SUFFIX = {torch.float32: "f32", torch.float16: "f16"}


def _threads(params: dict[str, int]) -> int:
    """Return the number of threads along the points."""
    return -(-params["n_points"] // params["points_per_thread"])


def _table_gradient(
    ctx: Any, positions: torch.Tensor, grad_features: torch.Tensor, levels: torch.Tensor, grad_table: torch.Tensor
) -> None:
    """Add the table's gradient to ``grad_table``: level by level, by float atomics, or by fixed-point atomics."""
    inputs = [positions, grad_features, levels]
    if ctx.backend == "host":
        kernel = "hashgrid_backward_levels_f32"
        kernels.launch(kernel, [*inputs, grad_table], ctx.params, (len(levels),), backend="host", long_threads=True)
        return
    grid = (_threads(ctx.params), len(levels))
    if not ctx.deterministic:
        kernel = "hashgrid_backward_atomic_f32"
        kernels.launch(kernel, [*inputs, grad_table], ctx.params, grid, backend=ctx.backend)
        return
    sums = torch.zeros((*grad_table.shape, 2), dtype=torch.int32, device=grad_table.device)
    kernels.launch("hashgrid_backward_fixed_f32", [*inputs, sums], ctx.params, grid, backend=ctx.backend)
    kernels.launch("hashgrid_fixed_f32", [sums, grad_table], ctx.params, (grad_table.numel(),), backend=ctx.backend)
