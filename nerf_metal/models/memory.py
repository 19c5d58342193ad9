"""Estimates of the memory of a model: how many rays fit into a memory budget, and whether a hash grid fits."""

from __future__ import annotations

import ctypes
import sys

from torch import nn

from nerf_metal.models.coarse_fine.field import CoarseFineField, NerfField
from nerf_metal.models.coarse_fine.sampler import Sampler
from nerf_metal.models.hash_grid.field import HashField
from nerf_metal.util.errors import InputError

_FLOAT = 4  # bytes
_OTHER_FLOATS = 24
"""Number of floats of a sample outside of the network: edges, middles, positions, colours, densities and weights, with
their gradients."""
_ALLOCATOR = 1.25
"""Bytes of memory that the process takes for each byte of its tensors. The rest is freed blocks that do not fit the
next request, and scratch memory of the matrix library. 1.17 was measured at 4 GB and 1.23 at 1 GB, with the preset
classic on a CPU."""


def _floats_per_sample(field: NerfField) -> int:
    """Return the number of floats that autograd keeps for one sample.

    These are the angles of the encoding and the input of every layer, which each layer saves for its backward pass.
    """
    encoding = field.encode_position.output_width
    layers = sum(field.layer_widths) + field.density.in_features
    return encoding + layers + 2 * field.color.in_features + _OTHER_FLOATS


def training_bytes_per_ray(model: CoarseFineField, sampler: Sampler) -> int:
    """Return the peak number of bytes of the forward and backward pass for one ray.

    It is ``4 * samples * (encoding + layer inputs + 2 colour layer + 24)``, summed over both networks. The gradients of
    activations take the memory of freed activations. Twice the widest layer is added for them.
    """
    coarse, fine = sampler.num_samples, sampler.num_samples + sampler.num_importance
    kept = coarse * _floats_per_sample(model.coarse) + fine * _floats_per_sample(model.fine)
    transient = 2 * fine * max(model.fine.layer_widths)
    return _FLOAT * (kept + transient)


def chunk_rays(budget_gb: float, fixed: int, model: CoarseFineField, sampler: Sampler) -> int:
    """Return the number of rays of a rendered chunk: at most one call of the networks, because more are not faster.

    Without gradients, a ray takes the memory of its samples' tensors, the encoding and two layers of the network.

    Args:
        budget_gb: value of ``--max-memory``, 1 GB = 10^9 bytes.
        fixed: number of bytes that are in use in any case.
        model: networks with their box.
        sampler: sampler of the rays.

    Raises:
        InputError: not even one ray fits.
    """
    fine = sampler.num_samples + sampler.num_importance
    widest = max(model.fine.layer_widths)
    floats = fine * (3 * model.fine.encode_position.output_width + 2 * widest + _OTHER_FLOATS)
    return min(rays_within(budget_gb, fixed, _FLOAT * floats), max(1, model.fine.max_rows // fine))


def fixed_bytes(module: nn.Module, held_bytes: int) -> int:
    """Return the number of bytes that are in use all the time.

    These are ``held_bytes``, each weight, and a gradient and Adam's two moments for each weight that learns.
    """
    floats = sum(p.numel() * (4 if p.requires_grad else 1) for p in module.parameters())
    return held_bytes + _FLOAT * floats


def rays_within(budget_gb: float, fixed: int, per_ray: int) -> int:
    """Return the number of rays that fit at once.

    Args:
        budget_gb: value of ``--max-memory``, 1 GB = 10^9 bytes. It does not include the runtime of torch, about 0.25
            GB.
        fixed: number of bytes that are in use in any case.
        per_ray: number of bytes of one ray.

    Raises:
        InputError: not even one ray fits.
    """
    rays = int((budget_gb * 1e9 / _ALLOCATOR - fixed) // per_ray)
    if rays < 1:
        needed = _ALLOCATOR * (fixed + per_ray) / 1e9
        raise InputError(
            f"[train] --max-memory must be at least {needed:.3g} GB for these images and this network, "
            f"got {budget_gb:g}; raise it, or raise --downscale"
        )
    return rays


_TABLE_FLOATS = 4
"""Number of floats for each number of the table: the number, its gradient and Adam's two moments."""
_SAMPLE_FLOATS = 300
"""Number of floats of a sample in a step of the hash grid: position, distances and ray; features, geometry and the
input of the colour network, each with its gradient; and the same for samples that were marched but not kept."""


def check_hash_grid(budget_gb: float, held_bytes: int, field: HashField, samples: int) -> None:
    """Check that the steps of a hash grid fit into a memory budget.

    Args:
        budget_gb: value of ``--max-memory``, 1 GB = 10^9 bytes. It does not include the runtime of torch.
        held_bytes: number of bytes of all images and of the averaged weights.
        field: field whose table is counted.
        samples: number of samples of a step.

    Raises:
        InputError: they do not fit.
    """
    floats = _TABLE_FLOATS * field.encoding.table.numel() + _SAMPLE_FLOATS * samples
    needed = _ALLOCATOR * (held_bytes + _FLOAT * floats) / 1e9
    if needed > budget_gb:
        raise InputError(
            f"[train] --max-memory must be at least {needed:.3g} GB for these images, this table and these samples, "
            f"got {budget_gb:g}; raise it, or lower --log2-table-size or --batch-samples, or raise --downscale"
        )


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # <malloc.h>
_KEEP_BYTES = 1 << 30  # more than a step frees


def keep_freed_memory() -> None:
    """Let glibc keep freed memory.

    Otherwise it returns the memory of large tensors to the system, and the next step page-faults new memory: 1 ms for
    8 MB, which is a fiftieth of a step. The memory of the process then stays at its peak. Other systems keep freed
    memory by default.
    """
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # musl does not have it
        for option in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD):
            libc.mallopt(option, _KEEP_BYTES)
