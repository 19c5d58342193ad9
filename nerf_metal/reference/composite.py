"""Alpha compositing in pure torch: the specification of ``metal/composite.metal``.

Symbols of an interval: ``tau`` is its optical depth, ``alpha`` its opacity, ``T`` the transmittance in front of it, and
``w`` its weight in the image.
"""

from __future__ import annotations

from typing import NamedTuple

import torch


class Composited(NamedTuple):
    """The rendered rays and the weights of their samples.

    Attributes:
        rgb: colours ``[R, 3]``.
        depth: sum of weight times middle of the interval ``[R]``, world units, not divided by the opacity.
        opacity: sum of the weights ``[R]``.
        weights: weights of the samples, shaped like the samples.
        transmittance: transmittance in front of each sample, shaped like the samples.
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
    """Composite samples front to back (Mildenhall et al. 2020, "NeRF", eq. 3; Max 1995).

    ``tau_i = sigma_i (t_end_i - t_start_i)``, ``alpha_i = 1 - exp(-tau_i)``, ``T_i = prod_{j<i} (1 - alpha_j)``,
    ``w_i = T_i alpha_i``, ``rgb = sum_i w_i c_i + (1 - sum_i w_i) background``.

    Args:
        t_starts: starts of the intervals as distances along the rays, world units: ``[R, S]`` dense or ``[S]`` packed,
            any float dtype.
        t_ends: ends of the intervals, like ``t_starts``. The kernels treat distances as constants to autograd; the
            reference gives them gradients.
        rgbs: colours, ``t_starts.shape + (3,)``.
        sigmas: densities like ``t_starts``, 1 / world unit. Negative densities count as 0, infinity as the largest
            float.
        alphas: opacities in [0, 1] instead of ``sigmas``. Give one of the two.
        packed_info: int ``[R, 2]``, (start, count) of each ray's samples in the packed form. Samples of no ray have
            weight 0. Rays must not share samples.
        background: background color ``[3]`` or ``[R, 3]``; None is black.
        early_stop_eps: least transmittance that counts. Samples with ``T_i < early_stop_eps`` are left out: their
            weight and transmittance are 0.

    Returns:
        The rendered rays and the weights, in the dtype of the densities.

    Raises:
        ValueError: neither ``sigmas`` nor ``alphas`` is given.
    """
    if packed_info is not None:
        return _composite_packed(t_starts, t_ends, rgbs, sigmas, alphas, packed_info, background, early_stop_eps)
    if sigmas is not None:
        tau = sigmas.clamp(0.0, torch.finfo(sigmas.dtype).max) * (t_ends - t_starts)
        alpha = -torch.expm1(-tau)
        # Shift by a column of zeros, not by subtraction: inf - inf would be NaN behind an opaque sample.
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
    """Return ``y_i = prod_{j<i} x_j`` along the last axis, by doubling (Hillis and Steele 1986).

    ``exp(cumsum(log))`` would have no gradient at 0, which an alpha of 1 gives. ``cumprod`` is wrong on some versions
    of MPS.
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
    """Pad the rays to one length, composite them in the dense form, and gather the samples back."""
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
