"""Alpha compositing: ``metal/composite.metal``, specified by ``nerf_metal/reference/composite.py``."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from nerf_metal import kernels, reference
from nerf_metal.ops.checks import (
    check_dense,
    check_kernel_dtype,
    check_like,
    check_match,
    check_numbers,
    check_shape,
    check_tensor,
)
from nerf_metal.reference import Composited


def composite_rays(
    t_starts: torch.Tensor,
    t_ends: torch.Tensor,
    rgbs: torch.Tensor,
    sigmas: torch.Tensor | None = None,
    alphas: torch.Tensor | None = None,
    *,
    packed_info: torch.Tensor | None = None,
    background: torch.Tensor | None = None,
    early_stop_eps: float = 0.0,
    backend: str = "auto",
) -> Composited:
    """Composite the samples of rays front to back (Mildenhall et al. 2020, eq. 3; Max 1995).

    :func:`nerf_metal.reference.composite_rays` has the equations. Gradients flow from all five results to ``sigmas`` or
    ``alphas``, to ``rgbs`` and to ``background``. Times are constants.

    Args:
        t_starts: start of each sample's interval, ``[R, S]`` dense or ``[S]`` packed, float32, world units. Two views
            of one tensor of edges are read in place, without a copy.
        t_ends: end of each sample's interval, like ``t_starts``.
        rgbs: colours of the samples, ``[R, S, 3]`` or ``[S, 3]``, float32 or float16.
        sigmas: densities of the samples, ``[R, S]`` or ``[S]``, 1 / world unit, in the dtype of ``rgbs``. A negative
            density counts as 0.
        alphas: opacities of the samples in [0, 1], instead of ``sigmas``.
        packed_info: first sample and number of samples of each ray, int32 or int64 ``[R, 2]``. None means that the
            samples are dense.
        background: colour behind the samples, ``[3]`` or ``[R, 3]``, float32. None is black.
        early_stop_eps: samples with less transmittance than this in front of them are left out, in [0, 1). 0 keeps all.
        backend: ``"auto"``, ``"metal"``, ``"host"`` or ``"torch"``.

    Returns:
        ``rgb [R, 3]``; ``depth [R]``, the sum of weight times middle of the interval, world units; ``opacity [R]``; and
        ``weights`` and ``transmittance``, shaped like ``t_starts``. All are float32.

    Raises:
        ValueError: if a shape or device is wrong, if both or neither of ``sigmas`` and ``alphas`` are given, if a time
            requires a gradient, or if the backend cannot be used.
        TypeError: if a type or dtype is wrong.
    """
    op = "composite_rays"
    if (sigmas is None) == (alphas is None):
        got = "neither" if sigmas is None else "both"
        raise ValueError(f"[{op}] one of sigmas and alphas must be given, got {got}; give one of the two")
    name, values = ("alphas", alphas) if sigmas is None else ("sigmas", sigmas)
    values = check_tensor(op, name, values)
    _check_samples(op, name, values, t_starts, t_ends, rgbs, packed_info)
    rays = values.shape[0] if packed_info is None else packed_info.shape[0]
    if background is not None:
        check_tensor(op, "background", background)
        if tuple(background.shape) not in ((3,), (rays, 3)):
            raise ValueError(f"[{op}] background must have shape (3,) or ({rays}, 3), got {tuple(background.shape)}")
        check_like(op, "background", background, "t_starts", t_starts)
    check_numbers(op, early_stop_eps=early_stop_eps)
    if not 0.0 <= early_stop_eps < 1.0:
        raise ValueError(f"[{op}] early_stop_eps must be in [0, 1), got {early_stop_eps}; 0 keeps every sample")
    backend = kernels.resolve(op, backend, values, t_starts)
    check_kernel_dtype(op, name, values, backend, half=True)
    check_kernel_dtype(op, "t_starts", t_starts, backend)
    if backend == "torch":
        wide = t_starts.dtype  # sums are never made in half precision
        return reference.composite_rays(
            t_starts,
            t_ends,
            rgbs.to(wide),
            None if sigmas is None else sigmas.to(wide),
            None if alphas is None else alphas.to(wide),
            packed_info=packed_info,
            background=background,
            early_stop_eps=early_stop_eps,
        )
    return Composited(
        *_Composite.apply(
            values, rgbs, background, t_starts, t_ends, packed_info, sigmas is None, early_stop_eps, backend
        )
    )


def _check_samples(
    op: str,
    name: str,
    values: torch.Tensor,
    t_starts: torch.Tensor,
    t_ends: torch.Tensor,
    rgbs: torch.Tensor,
    packed_info: torch.Tensor | None,
) -> None:
    check_tensor(op, "t_starts", t_starts)
    dims, form = (2, "(R, S), or (S,) with packed_info") if packed_info is None else (1, "(S,) with packed_info")
    if t_starts.dim() != dims:
        raise ValueError(f"[{op}] t_starts must have shape {form}, got {tuple(t_starts.shape)}")
    shape = tuple(t_starts.shape)
    check_match(op, "t_ends", t_ends, "t_starts", t_starts, shape, " like t_starts")
    check_shape(op, name, values, shape, " like t_starts")
    check_match(op, "rgbs", rgbs, name, values, (*shape, 3))
    if values.device != t_starts.device:
        raise ValueError(f"[{op}] {name} must be on {t_starts.device} like t_starts, got {values.device}")
    if t_starts.requires_grad or t_ends.requires_grad:
        raise ValueError(f"[{op}] t_starts and t_ends must be constants, got a tensor that requires grad; detach it")
    if packed_info is not None:
        if not isinstance(packed_info, torch.Tensor) or packed_info.dtype not in (torch.int32, torch.int64):
            got = getattr(packed_info, "dtype", type(packed_info).__name__)
            raise TypeError(f"[{op}] packed_info must be an int32 or int64 tensor, got {got}")
        check_dense(op, "packed_info", packed_info)
        if packed_info.dim() != 2 or packed_info.shape[1] != 2:
            raise ValueError(f"[{op}] packed_info must have shape (R, 2), got {tuple(packed_info.shape)}")
        if packed_info.device != t_starts.device:
            raise ValueError(f"[{op}] packed_info must be on {t_starts.device} like t_starts, got {packed_info.device}")


def _times(t_starts: torch.Tensor, t_ends: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Return starts, ends and their common row stride. Views of one tensor of edges are not copied."""
    if t_starts.dim() == 1:
        return t_starts.contiguous(), t_ends.contiguous(), 0
    samples = t_starts.shape[1]
    row, column = t_starts.stride()
    if t_ends.stride() == (row, column) and (column == 1 or samples == 1) and 0 < samples <= row < 2**31:
        return t_starts, t_ends, row
    return t_starts.contiguous(), t_ends.contiguous(), samples


class _Composite(torch.autograd.Function):
    """Compositing as one differentiable function: a forward and a backward kernel."""

    @staticmethod
    def forward(
        ctx: Any,
        values: torch.Tensor,
        rgbs: torch.Tensor,
        background: torch.Tensor | None,
        t_starts: torch.Tensor,
        t_ends: torch.Tensor,
        packed_info: torch.Tensor | None,
        is_alpha: bool,
        early_stop_eps: float,
        backend: str,
    ) -> tuple[torch.Tensor, ...]:
        packed = packed_info is not None
        rays = packed_info.shape[0] if packed_info is not None else values.shape[0]
        t_starts, t_ends, t_stride = _times(t_starts, t_ends)
        values, rgbs = values.contiguous(), rgbs.contiguous()
        if packed_info is not None:
            if packed_info.dtype == torch.int64:  # cut, not wrapped, to what the kernels index with
                packed_info = packed_info.clamp(0, 2**31 - 1).to(torch.int32)
            packed_info = packed_info.contiguous()
        background = None if background is None else background.contiguous()
        params: dict[str, int | float] = {
            "n_rays": rays,
            "n_samples": values.shape[-1],
            "packed": int(packed),
            "t_stride": t_stride,
            "is_alpha": int(is_alpha),
            "has_background": int(background is not None),
            "background_stride": 3 if background is not None and background.dim() == 2 else 0,
            "has_grad_weights": 0,
            "has_grad_transmittance": 0,
            "early_stop_eps": early_stop_eps,
        }
        rgb = t_starts.new_empty((rays, 3))
        depth, opacity = t_starts.new_empty(rays), t_starts.new_empty(rays)
        # Samples in no packed ray are written by nobody.
        new = t_starts.new_zeros if packed else t_starts.new_empty
        weights, transmittance = new(values.shape), new(values.shape)
        inputs = [values, rgbs, t_starts, t_ends, packed_info, background]
        kernel, threads = kernels.variant("composite_forward", values.dtype, backend)
        outputs = [rgb, depth, opacity, weights, transmittance]
        kernels.launch(kernel, [*inputs, *outputs], params, (rays * threads,), backend=backend)
        ctx.save_for_backward(values, rgbs, t_starts, t_ends, packed_info, background, opacity, transmittance)
        ctx.params, ctx.backend = params, backend
        ctx.set_materialize_grads(False)
        return rgb, depth, opacity, weights, transmittance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        *inputs, opacity, transmittance = ctx.saved_tensors
        values, rgbs, background = inputs[0], inputs[1], inputs[5]
        rays = opacity.shape[0]
        grad_rgb, grad_depth, grad_opacity, grad_weights, grad_transmittance = (
            None if g is None else g.contiguous() for g in grads
        )
        per_ray = [
            opacity.new_zeros((rays, 3)) if grad_rgb is None else grad_rgb,
            opacity.new_zeros(rays) if grad_depth is None else grad_depth,
            opacity.new_zeros(rays) if grad_opacity is None else grad_opacity,
        ]
        params = dict(
            ctx.params,
            has_grad_weights=int(grad_weights is not None),
            has_grad_transmittance=int(grad_transmittance is not None),
        )
        new = torch.zeros_like if params["packed"] else torch.empty_like
        grad_values, grad_rgbs = new(values), new(rgbs)
        grad_background = None if background is None else opacity.new_empty((rays, 3))
        kernel, threads = kernels.variant("composite_backward", values.dtype, ctx.backend)
        kernels.launch(
            kernel,
            [
                *inputs,
                opacity,
                transmittance,
                *per_ray,
                grad_weights,
                grad_transmittance,
                grad_values,
                grad_rgbs,
                grad_background,
            ],
            params,
            (rays * threads,),
            backend=ctx.backend,
        )
        if grad_background is not None and background.dim() == 1:
            grad_background = grad_background.sum(0)
        return grad_values, grad_rgbs, grad_background, None, None, None, None, None, None
