"""How many rays fit into a memory budget: an estimate from the network's widths."""

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
"""Of a sample outside the network: edges, middles, positions, colours, densities, weights, with their
gradients."""
_ALLOCATOR = 1.25
"""Memory that the process takes for each byte of its tensors: freed blocks that do not fit the next request, and
scratch of the matrix library. Measured 1.17 at 4 GB and 1.23 at 1 GB with the preset classic on a CPU."""


def _floats_per_sample(field: NerfField) -> int:
    """Floats that autograd keeps for one sample: what each layer saves for its backward pass.

    The angles of the encoding, and every layer's input (the first one's is the encoding itself).
    """
    encoding = field.encode_position.output_width
    layers = sum(field.layer_widths) + field.density.in_features
    return encoding + layers + 2 * field.color.in_features + _OTHER_FLOATS


def training_bytes_per_ray(model: CoarseFineField, sampler: Sampler) -> int:
    """Peak bytes of forward and backward for one ray.

    ``4 * sum over both passes of samples * (encoding + layer inputs + 2 colour layer + 24)``; gradients of
    activations replace what they free and are covered by counting the widest layer twice more.
    """
    coarse, fine = sampler.num_samples, sampler.num_samples + sampler.num_importance
    kept = coarse * _floats_per_sample(model.coarse) + fine * _floats_per_sample(model.fine)
    transient = 2 * fine * max(model.fine.layer_widths)
    return _FLOAT * (kept + transient)


def chunk_rays(budget_gb: float, fixed: int, model: CoarseFineField, sampler: Sampler) -> int:
    """Rays of a rendered chunk, at most enough for one call of the networks: more is no faster.

    Without gradients a ray costs its samples' own tensors, and a call of the network, however many rays it
    is cut from, the encoding and two layers of the field's ``max_rows`` rows.
    """
    fine = sampler.num_samples + sampler.num_importance
    widest = max(model.fine.layer_widths)
    floats = fine * (3 * model.fine.encode_position.output_width + 2 * widest + _OTHER_FLOATS)
    return min(rays_within(budget_gb, fixed, _FLOAT * floats), max(1, model.fine.max_rows // fine))


def fixed_bytes(module: nn.Module, held_bytes: int) -> int:
    """Bytes held all the time: those held anyway, each weight, and a gradient and Adam's two moments of each that
    learns."""
    floats = sum(p.numel() * (4 if p.requires_grad else 1) for p in module.parameters())
    return held_bytes + _FLOAT * floats


def rays_within(budget_gb: float, fixed: int, per_ray: int) -> int:
    """Rays that fit at once.

    Args:
        budget_gb: of ``--max-memory``, 1 GB = 10^9 bytes. The runtime of torch itself (about 0.25 GB) is not
            in it.
        fixed: bytes taken anyway.
        per_ray: bytes of one ray.

    Raises:
        InputError: not one ray fits.
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
"""Floats for each number of the table: itself, its gradient and Adam's two moments."""
_SAMPLE_FLOATS = 300
"""Of a sample in a step of the hash grid: place, times and ray; features, geometry and the colour network's input, each
with its gradient; and the same again of samples that were marched but not kept."""


def check_hash_grid(budget_gb: float, held_bytes: int, field: HashField, samples: int) -> None:
    """Check that a hash grid's steps fit into a memory budget.

    Args:
        budget_gb: of ``--max-memory``, 1 GB = 10^9 bytes, without torch's own runtime.
        held_bytes: of all images and of the averaged weights.
        field: gives the size of the table.
        samples: of a step.

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
    """Let glibc keep what is freed: else it gives large tensors back to the system, and the next step page-faults its
    own anew (1 ms for 8 MB, a fiftieth of a step). What a process holds then stays at its peak. Other systems keep it
    by themselves.
    """
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # musl has none
        for option in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD):
            libc.mallopt(option, _KEEP_BYTES)
