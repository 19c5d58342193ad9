"""Alpha compositing in pure torch: the specification of ``metal/composite.metal``.

Letters: ``tau`` optical depth of an interval, ``alpha`` its opacity, ``T`` transmittance in front of it, ``w`` its
weight in the picture.
"""

from __future__ import annotations

from typing import NamedTuple

import torch


class Composited(NamedTuple):
    """Pictures of rays and the weights behind them.

    ``rgb`` ``[R, 3]``, ``depth`` ``[R]`` (sum of weight times interval middle, world units, not divided by the
    opacity), ``opacity`` ``[R]``, and shaped like the samples ``weights`` and ``transmittance``.
    """

    rgb: torch.Tensor
    depth: torch.Tensor
    opacity: torch.Tensor
    weights: torch.Tensor
    transmittance: torch.Tensor


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
) -> Composited:
    """Composite samples front to back (NeRF, Mildenhall et al. 2020, eq. 3; Max 1995).

    ``tau_i = sigma_i (t_end_i - t_start_i)``, ``alpha_i = 1 - exp(-tau_i)``, ``T_i = prod_{j<i} (1 - alpha_j)``,
    ``w_i = T_i alpha_i``, ``rgb = sum_i w_i c_i + (1 - sum_i w_i) background``.

    Args:
        t_starts: ``[R, S]`` dense or ``[S]`` packed, any float dtype.
        t_ends: like ``t_starts``. Times are constants to autograd in the kernels; here they have gradients.
        rgbs: colours, ``t_starts.shape + (3,)``.
        sigmas: densities like ``t_starts``, 1 / world unit; negative ones count as 0. Infinity is the largest float.
        alphas: opacities in [0, 1] instead of ``sigmas``; give one of the two.
        packed_info: int ``[R, 2]``, (start, count) of each ray's samples in the packed form. Samples in no ray
            have zero weight; rays must not share samples.
        background: ``[3]`` or ``[R, 3]``; None is black.
        early_stop_eps: samples with ``T_i < early_stop_eps`` are left out: weight and transmittance read 0.
    """
    if packed_info is not None:
        return _composite_packed(t_starts, t_ends, rgbs, sigmas, alphas, packed_info, background, early_stop_eps)
    if sigmas is not None:
        tau = sigmas.clamp(0.0, torch.finfo(sigmas.dtype).max) * (t_ends - t_starts)
        alpha = -torch.expm1(-tau)
        # Shifted by a column of zeros, not by subtraction: inf - inf would be NaN behind an opaque sample.
        trans = torch.exp(-torch.cat((torch.zeros_like(tau[..., :1]), tau.cumsum(-1)[..., :-1]), -1))
    elif alphas is not None:
        alpha = alphas
        trans = _exclusive_product(1.0 - alphas)
    else:
        raise ValueError("[composite_rays] sigmas or alphas must be given, got neither; give one of the two")
    alive = trans >= early_stop_eps
    trans = torch.where(alive, trans, torch.zeros_like(trans))
    weights = trans * alpha
    opacity = weights.sum(-1)
    depth = (weights * ((t_starts + t_ends) * 0.5)).sum(-1)
    rgb = (weights[..., None] * rgbs).sum(-2)
    if background is not None:
        rgb = rgb + (1.0 - opacity)[..., None] * background
    return Composited(rgb, depth, opacity, weights, trans)


def _exclusive_product(x: torch.Tensor) -> torch.Tensor:
    """``y_i = prod_{j<i} x_j`` along the last axis by doubling (Hillis and Steele 1986).

    ``exp(cumsum(log))`` has no gradient at 0, where an alpha of 1 puts it, and ``cumprod`` is banned.
    """
    product = torch.cat((torch.ones_like(x[..., :1]), x[..., :-1]), -1)
    shift = 1
    while shift < product.shape[-1]:
        product = torch.cat((product[..., :shift], product[..., shift:] * product[..., :-shift]), -1)
        shift *= 2
    return product


def _composite_packed(
    t_starts: torch.Tensor,
    t_ends: torch.Tensor,
    rgbs: torch.Tensor,
    sigmas: torch.Tensor | None,
    alphas: torch.Tensor | None,
    packed_info: torch.Tensor,
    background: torch.Tensor | None,
    early_stop_eps: float,
) -> Composited:
    """Pad the rays to one length, composite them densely, and gather the samples back."""
    total = t_starts.shape[0]
    start, count = packed_info.long().unbind(-1)
    longest = int(count.max()) if len(count) else 0
    slot = torch.arange(longest, device=t_starts.device)[None]
    filled = slot < count[:, None]  # [R, longest]
    source = torch.where(filled, start[:, None] + slot, total)  # one padding sample at the end

    def pad(x: torch.Tensor) -> torch.Tensor:
        return torch.cat((x, x.new_zeros((1, *x.shape[1:]))))[source]

    def unpad(x: torch.Tensor) -> torch.Tensor:
        packed = x.new_zeros(total + 1)
        return packed.scatter(0, source[filled], x[filled])[:total]

    dense = composite_rays(
        pad(t_starts),
        pad(t_ends),
        pad(rgbs),
        None if sigmas is None else pad(sigmas),
        None if alphas is None else pad(alphas),
        background=background,
        early_stop_eps=early_stop_eps,
    )
    return Composited(dense.rgb, dense.depth, dense.opacity, unpad(dense.weights), unpad(dense.transmittance))
