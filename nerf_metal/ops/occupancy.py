"""The occupancy grid's kernels: ``metal/occupancy.metal``, specified by ``nerf_metal/reference/occupancy.py``."""

from __future__ import annotations

import torch

from nerf_metal import kernels, reference
from nerf_metal.ops.checks import (
    check_contiguous,
    check_count,
    check_grid,
    check_indices,
    check_integers,
    check_kernel_dtype,
    check_match,
    check_numbers,
    check_seed,
    check_tensor,
    constant,
)
from nerf_metal.reference import OccupancyCells


def occupancy_cells(
    bits: torch.Tensor,
    aabb: torch.Tensor,
    num_uniform: int,
    num_occupied: int,
    *,
    resolution: int,
    cascades: int = 1,
    seed: int = 0,
    first_cell: int | None = None,
    backend: str = "auto",
) -> OccupancyCells:
    """Choose cells to look at, and a random place in each; :func:`nerf_metal.reference.occupancy_cells` specifies it.

    Args:
        bits: int32 ``[cascades * resolution^3 / 32]``, bit ``i % 32`` of word ``i / 32`` is cell ``i``.
        aabb: the box of the finest cascade ``[2, 3]``, float32 (the ``torch`` backend takes any float), world units.
        num_uniform: number of cells drawn from all.
        num_occupied: number of cells drawn from the occupied ones.
        resolution: cells of a cascade along an axis, a multiple of 4 from 8 to 256.
        cascades: number of cascades, 1 to 8.
        seed: seed of the cells and places; its low 32 bits count. Equal seeds give equal numbers on every backend.
        first_cell: if given, take the ``num_uniform`` cells that begin with this one, in order; the first cell follows
            the last. ``num_occupied`` must then be 0.
        backend: ``"auto"``, ``"metal"``, ``"host"`` or ``"torch"``.

    Returns:
        Indices ``cells [M]`` int64, and a place in each, ``positions [M, 3]``, world units;
        ``M = num_uniform + num_occupied``.

    Raises:
        ValueError: if a shape, device or number is wrong, or if the backend cannot be used.
        TypeError: if a type or dtype is wrong.
    """
    op = "occupancy_cells"
    check_tensor(op, "aabb", aabb)
    check_match(op, "aabb", aabb, "aabb", aabb, (2, 3))
    total = check_grid(op, resolution, cascades)
    check_integers(op, "bits", bits, (total // 32,), "aabb", aabb)
    check_count(op, "num_uniform", num_uniform, least=0)
    check_count(op, "num_occupied", num_occupied, least=0)
    check_seed(op, seed)
    if first_cell is not None:
        check_count(op, "first_cell", first_cell, least=0)
        if num_occupied:
            raise ValueError(f"[{op}] num_occupied must be 0 with first_cell, got {num_occupied}")
    backend = kernels.resolve(op, backend, aabb)
    check_kernel_dtype(op, "aabb", aabb, backend)
    if backend == "torch":
        return reference.occupancy_cells(
            bits,
            aabb,
            num_uniform,
            num_occupied,
            resolution=resolution,
            cascades=cascades,
            seed=seed,
            first_cell=first_cell,
        )
    count = num_uniform + num_occupied
    chosen = OccupancyCells(bits.new_empty(count), aabb.new_empty((count, 3)))
    params = {
        "n_cells": count,
        "n_words": len(bits),
        "n_uniform": num_uniform,
        "resolution": resolution,
        "in_order": int(first_cell is not None),
        "first_cell": (first_cell or 0) % total,
        "seed": seed & 0xFFFFFFFF,
    }
    inputs = constant(bits), constant(aabb)
    kernels.launch("occupancy_cells_f32", [*inputs, *chosen], params, (count,), backend=backend)
    return chosen._replace(cells=chosen.cells.long())


def occupancy_update(
    density: torch.Tensor,
    cells: torch.Tensor,
    values: torch.Tensor,
    *,
    decay: float = 0.95,
    backend: str = "auto",
) -> None:
    """Remember new densities, in place (Müller et al. 2022, appendix E.2).

    :func:`nerf_metal.reference.occupancy_update` has the rule.

    Args:
        density: ``[cascades * resolution^3]``, contiguous, at least 0, float32 (the ``torch`` backend takes any float).
        cells: indices of cells, int32 or int64 ``[M]``, in any order. A cell may occur more than once.
        values: densities found in these cells ``[M]``, 1 / world unit. NaN and negative values count as 0.
        decay: factor on the density of every cell, applied first, 0 to 1. The default is instant-ngp's.
        backend: ``"auto"``, ``"metal"``, ``"host"`` or ``"torch"``.

    Raises:
        ValueError: if a shape, device or the decay is wrong, or if the backend cannot be used.
        TypeError: if a type or dtype is wrong.
    """
    op = "occupancy_update"
    _check_density(op, density)
    check_tensor(op, "values", values)
    if values.dim() != 1:
        raise ValueError(f"[{op}] values must have shape (M,), got {tuple(values.shape)}")
    check_match(op, "values", values, "density", density, values.shape)
    cells = check_indices(op, "cells", cells, tuple(values.shape), "density", density)
    check_numbers(op, decay=decay)
    if not 0 <= decay <= 1:
        raise ValueError(f"[{op}] decay must be 0 to 1, got {decay}; instant-ngp uses 0.95")
    backend = kernels.resolve(op, backend, density)
    check_kernel_dtype(op, "density", density, backend)
    if backend == "torch":
        reference.occupancy_update(density, cells, values, decay=decay)
        return
    with torch.no_grad():
        density.mul_(decay)
    params = {"n_cells": len(cells), "n_words": len(density) // 32}
    bits_of_floats = density.detach().view(torch.int32)
    buffers = constant(cells), constant(values), bits_of_floats
    kernels.launch("occupancy_update_f32", buffers, params, (len(cells),), backend=backend)


def occupancy_pack(
    density: torch.Tensor, threshold: float, *, out: torch.Tensor | None = None, backend: str = "auto"
) -> torch.Tensor:
    """Return which cells are dense enough to count as occupied (Müller et al. 2022, appendix E.2).

    :func:`nerf_metal.reference.occupancy_pack` has the rule.

    Args:
        density: ``[cascades * resolution^3]``, contiguous, float32 (the ``torch`` backend takes any float).
        threshold: density from which a cell is occupied, at least 0, 1 / world unit.
        out: int32 ``[cascades * resolution^3 / 32]``, contiguous, to be written instead of a new tensor.
        backend: ``"auto"``, ``"metal"``, ``"host"`` or ``"torch"``.

    Returns:
        int32 ``[cascades * resolution^3 / 32]``, bit ``i % 32`` of word ``i / 32`` is cell ``i``.

    Raises:
        ValueError: if a shape, device or the threshold is wrong, or if the backend cannot be used.
        TypeError: if a type or dtype is wrong.
    """
    op = "occupancy_pack"
    _check_density(op, density)
    check_numbers(op, threshold=threshold)
    if not 0 <= threshold < float("inf"):
        raise ValueError(f"[{op}] threshold must be finite and at least 0, got {threshold}")
    words = len(density) // 32
    if out is not None:
        check_integers(op, "out", out, (words,), "density", density)
        check_contiguous(op, "out", out)
    backend = kernels.resolve(op, backend, density)
    check_kernel_dtype(op, "density", density, backend)
    if backend == "torch":
        packed = reference.occupancy_pack(density, threshold)
        return packed if out is None else out.copy_(packed)
    bits = torch.empty(words, dtype=torch.int32, device=density.device) if out is None else out
    density = density.detach()
    limit = density.nan_to_num(posinf=0.0).mean().clamp(max=threshold)  # as the reference
    kernels.launch("occupancy_pack_f32", [density, limit, bits], {"n_words": words}, (words,), backend=backend)
    return bits


def _check_density(op: str, density: torch.Tensor) -> None:
    check_tensor(op, "density", density)
    if density.dim() != 1 or len(density) % 32:
        raise ValueError(
            f"[{op}] density must have shape (cascades * resolution^3,), a multiple of 32, got {tuple(density.shape)}"
        )
    check_contiguous(op, "density", density)
