"""The packed samples that light reaches: ``metal/visibility.metal``, specified by
``nerf_metal/reference/visibility.py``."""

from __future__ import annotations

import torch

from nerf_metal import kernels, reference
from nerf_metal.ops.checks import (
    check_contiguous,
    check_count,
    check_integers,
    check_kernel_dtype,
    check_match,
    check_numbers,
    check_shape,
    check_tensor,
    check_vectors,
    constant,
)
from nerf_metal.reference import RaySampleList

# Rays of one thread on the host: enough to pay for sharing them out, few enough to share them evenly.
_HOST_RAYS_PER_THREAD = 64
# Threads that share a ray on a GPU: neighbours write neighbouring memory, and few rays of a window have more samples.
_METAL_LANES = 16


def visibility_gather(
    rays_o: torch.Tensor,
    rays_d: torch.Tensor,
    t_starts: torch.Tensor,
    t_ends: torch.Tensor,
    source_info: torch.Tensor,
    target_info: torch.Tensor,
    num_samples: int,
    *,
    backend: str = "auto",
) -> RaySampleList:
    """Gather the first samples of each ray into new arrays.

    :func:`nerf_metal.reference.visibility_gather` specifies it. The caller knows ``num_samples``, so that nothing is
    read back from a GPU. Entries that lead out of the samples are cut (the ``torch`` backend refuses them).

    Args:
        rays_o: origins ``[R, 3]``, float32 (the ``torch`` backend takes any float dtype), world units.
        rays_d: directions ``[R, 3]``.
        t_starts: start of each sample's interval ``[S]``, in units of the direction's length.
        t_ends: end of each sample's interval ``[S]``.
        source_info: first sample and number of samples of each ray among these, int32 ``[R, 2]``.
        target_info: first place and number of places of each ray in the result, int32 ``[R, 2]``. No two rays share a
            place. A ray fills as many places as both entries allow.
        num_samples: length of the result. Places of no ray hold zeros.
        backend: ``"auto"``, ``"metal"``, ``"host"`` or ``"torch"``.

    Returns:
        ``ray_indices`` int64, ``t_starts`` and ``t_ends`` ``[num_samples]``, and the middles of the intervals,
        ``positions [num_samples, 3]``, world units. They have no gradient.

    Raises:
        ValueError: if a shape, device or number is wrong, or if the backend cannot be used.
        TypeError: if a type or dtype is wrong.
    """
    op = "visibility_gather"
    check_vectors(op, "rays_o", rays_o, "R")
    rays = len(rays_o)
    check_match(op, "rays_d", rays_d, "rays_o", rays_o, rays_o.shape, " like rays_o")
    _check_times(op, t_starts, t_ends, "rays_o", rays_o)
    check_integers(op, "source_info", source_info, (rays, 2), "rays_o", rays_o)
    check_integers(op, "target_info", target_info, (rays, 2), "rays_o", rays_o)
    check_count(op, "num_samples", num_samples, least=0)
    backend = kernels.resolve(op, backend, rays_o)
    check_kernel_dtype(op, "rays_o", rays_o, backend)
    if backend == "torch":
        return reference.visibility_gather(rays_o, rays_d, t_starts, t_ends, source_info, target_info, num_samples)
    found = RaySampleList(
        source_info.new_zeros(num_samples),
        *(t_starts.new_zeros(shape) for shape in ((num_samples,), (num_samples,), (num_samples, 3))),
    )
    inputs = [constant(x) for x in (rays_o, rays_d, t_starts, t_ends, source_info, target_info)]
    _launch("visibility_gather_f32", [*inputs, *found], backend, rays, len(t_starts), num_samples, shared=True)
    return found._replace(ray_indices=found.ray_indices.long())


def visibility_count(
    sigmas: torch.Tensor,
    t_starts: torch.Tensor,
    t_ends: torch.Tensor,
    packed_info: torch.Tensor,
    transmittance: torch.Tensor,
    *,
    early_stop_eps: float,
    backend: str = "auto",
) -> torch.Tensor:
    """Count the samples of each ray that light reaches (Mildenhall et al. 2020, eq. 3).

    :func:`nerf_metal.reference.visibility_count` has the equation. Light only decreases along a ray, so that the
    samples it reaches are the ray's first ones.

    Args:
        sigmas: densities ``[S]``, float32 (the ``torch`` backend takes any float dtype), 1 / world unit.
        t_starts: start of each sample's interval ``[S]``, world units.
        t_ends: end of each sample's interval ``[S]``.
        packed_info: first sample and number of samples of each ray, int32 ``[R, 2]``. Entries that lead out of the
            samples are cut (the ``torch`` backend refuses them).
        transmittance: light in front of each ray's samples ``[R]``, contiguous. It is overwritten with the light behind
            the samples that are reached.
        early_stop_eps: least transmittance with which a sample counts as reached, in [0, 1).
        backend: ``"auto"``, ``"metal"``, ``"host"`` or ``"torch"``.

    Returns:
        Number of samples that are reached of each ray, int32 ``[R]``.

    Raises:
        ValueError: if a shape, device or the threshold is wrong, or if the backend cannot be used.
        TypeError: if a type or dtype is wrong.
    """
    op = "visibility_count"
    check_tensor(op, "sigmas", sigmas)
    if sigmas.dim() != 1:
        raise ValueError(f"[{op}] sigmas must have shape (S,), got {tuple(sigmas.shape)}")
    _check_times(op, t_starts, t_ends, "sigmas", sigmas, sigmas.shape)
    check_tensor(op, "transmittance", transmittance)
    if transmittance.dim() != 1:
        raise ValueError(f"[{op}] transmittance must have shape (R,), got {tuple(transmittance.shape)}")
    check_match(op, "transmittance", transmittance, "sigmas", sigmas, transmittance.shape)
    check_contiguous(op, "transmittance", transmittance)
    rays = len(transmittance)
    check_integers(op, "packed_info", packed_info, (rays, 2), "sigmas", sigmas)
    check_numbers(op, early_stop_eps=early_stop_eps)
    if not 0.0 <= early_stop_eps < 1.0:
        raise ValueError(f"[{op}] early_stop_eps must be in [0, 1), got {early_stop_eps}; 0 reaches every sample")
    backend = kernels.resolve(op, backend, sigmas)
    check_kernel_dtype(op, "sigmas", sigmas, backend)
    if backend == "torch":
        return reference.visibility_count(
            sigmas, t_starts, t_ends, packed_info, transmittance, early_stop_eps=early_stop_eps
        )
    counts = packed_info.new_empty(rays)
    inputs = [constant(x) for x in (sigmas, t_starts, t_ends, packed_info)]
    buffers = [*inputs, transmittance.detach(), counts]
    _launch("visibility_count_f32", buffers, backend, rays, len(sigmas), 0, early_stop_eps=early_stop_eps)
    return counts


def visibility_copy(
    rows: torch.Tensor,
    source_info: torch.Tensor,
    target_info: torch.Tensor,
    out: torch.Tensor,
    *,
    backend: str = "auto",
) -> None:
    """Copy the first rows of each ray to their places in another tensor.

    :func:`nerf_metal.reference.visibility_copy` specifies it.

    Args:
        rows: numbers of each sample ``[S, C]``, float32 (the ``torch`` backend takes any float dtype).
        source_info: first row and number of rows of each ray, int32 ``[R, 2]``. Entries that lead out of the rows are
            cut (the ``torch`` backend refuses them).
        target_info: first place and number of places of each ray in ``out``, int32 ``[R, 2]``. No two rays share a
            place.
        out: the tensor to write to ``[K, C]``, contiguous. Places of no ray keep their values.
        backend: ``"auto"``, ``"metal"``, ``"host"`` or ``"torch"``.

    Raises:
        ValueError: if a shape or device is wrong, or if the backend cannot be used.
        TypeError: if a type or dtype is wrong.
    """
    op = "visibility_copy"
    check_tensor(op, "rows", rows)
    if rows.dim() != 2:
        raise ValueError(f"[{op}] rows must have shape (S, C), got {tuple(rows.shape)}")
    check_tensor(op, "out", out)
    if out.dim() != 2 or out.shape[1] != rows.shape[1]:
        raise ValueError(f"[{op}] out must have shape (K, {rows.shape[1]}) like rows, got {tuple(out.shape)}")
    check_match(op, "out", out, "rows", rows, out.shape)
    check_contiguous(op, "out", out)
    rays = len(source_info) if isinstance(source_info, torch.Tensor) else 0
    check_integers(op, "source_info", source_info, (rays, 2), "rows", rows)
    check_integers(op, "target_info", target_info, (rays, 2), "rows", rows)
    backend = kernels.resolve(op, backend, rows)
    check_kernel_dtype(op, "rows", rows, backend)
    if backend == "torch":
        reference.visibility_copy(rows, source_info, target_info, out)
        return
    buffers = [constant(rows), constant(source_info), constant(target_info), out.detach()]
    _launch("visibility_copy_f32", buffers, backend, rays, len(rows), len(out), n_columns=rows.shape[1], shared=True)


def _check_times(
    op: str,
    t_starts: torch.Tensor,
    t_ends: torch.Tensor,
    model_name: str,
    model: torch.Tensor,
    shape: torch.Size | None = None,
) -> None:
    check_tensor(op, "t_starts", t_starts)
    if t_starts.dim() != 1:
        raise ValueError(f"[{op}] t_starts must have shape (S,), got {tuple(t_starts.shape)}")
    if shape is not None:
        check_shape(op, "t_starts", t_starts, shape, f" like {model_name}")
    check_match(op, "t_starts", t_starts, model_name, model, t_starts.shape)
    check_match(op, "t_ends", t_ends, "t_starts", t_starts, t_starts.shape, " like t_starts")


def _launch(
    kernel: str,
    buffers: list[torch.Tensor],
    backend: str,
    rays: int,
    source: int,
    target: int,
    *,
    n_columns: int = 1,
    early_stop_eps: float = 0.0,
    shared: bool = False,
) -> None:
    """Launch a kernel over rays. With ``shared``, the work of one ray can be shared among threads."""
    per_thread, lanes = (1, _METAL_LANES) if backend == "metal" else (_HOST_RAYS_PER_THREAD, 1)
    params: dict[str, int | float] = {
        "n_rays": rays,
        "n_source": source,
        "n_target": target,
        "n_columns": n_columns,
        "rays_per_thread": per_thread,
        "lanes": lanes,
        "early_stop_eps": early_stop_eps,
    }
    threads = -(-rays // per_thread)
    if shared:
        kernels.launch(kernel, buffers, params, (lanes, threads), group=(_METAL_LANES, 8), backend=backend)
    else:
        kernels.launch(kernel, buffers, params, (threads,), backend=backend)
