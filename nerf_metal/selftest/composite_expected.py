"""What compositing should give: the float64 reference on the same inputs, and the magnitude that each entry's
rounding errors are relative to, worked out with absolute values in place of the terms."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch

from nerf_metal.reference import composite_rays
from nerf_metal.selftest.composite_cases import FLOAT32_MAX, CompositeCase, CompositeInputs
from nerf_metal.selftest.tolerances import TINY, product, rounded_to_half

RESULTS = ("rgb", "depth", "opacity", "weights", "transmittance")


@dataclass(frozen=True)
class Expected:
    """Results and gradients by name, with a tolerance for each entry, and the float32 cotangents they belong to."""

    inputs: CompositeInputs
    cotangents: dict[str, torch.Tensor]
    outputs: dict[str, torch.Tensor]
    grads: dict[str, torch.Tensor]
    tolerance: dict[str, torch.Tensor]


@functools.cache
def expected_composite(case: CompositeCase, used: tuple[str, ...] = RESULTS) -> Expected:
    """For one case; ``used`` are the results that have a cotangent."""
    inputs = case.build()
    outputs, leaves = _reference(inputs)
    random = torch.Generator().manual_seed(5)
    cotangents = {k: torch.randn(v.shape, generator=random) for k, v in outputs.items() if k in used}
    grads = torch.autograd.grad(
        [outputs[k] for k in cotangents],
        list(leaves.values()),
        [g.double() for g in cotangents.values()],
        allow_unused=True,
    )
    named = {
        f"grad_{k}": torch.zeros_like(x) if g is None else g for (k, x), g in zip(leaves.items(), grads, strict=True)
    }
    outputs = {k: v.detach() for k, v in outputs.items()}
    tolerance = _tolerances(inputs, outputs, cotangents)
    if case.half:
        for name in ("grad_values", "grad_rgbs"):
            tolerance[name] = rounded_to_half(named[name], tolerance[name])
    return Expected(inputs, cotangents, outputs, named, tolerance)


def _reference(inputs: CompositeInputs) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    values = inputs.values.double()
    if not inputs.is_alpha:
        values = values.clamp(max=FLOAT32_MAX)  # infinity counts as the largest float of the kernel's type
    leaves = {"values": values.requires_grad_(), "rgbs": inputs.rgbs.double().requires_grad_()}
    if inputs.background is not None:
        leaves["background"] = inputs.background.double().requires_grad_()
    result = composite_rays(
        inputs.t_starts.double(),
        inputs.t_ends.double(),
        leaves["rgbs"],
        None if inputs.is_alpha else leaves["values"],
        leaves["values"] if inputs.is_alpha else None,
        packed_info=inputs.packed_info,
        background=leaves.get("background"),
        early_stop_eps=inputs.early_stop_eps,
    )
    return dict(result._asdict()), leaves


def _tolerances(
    inputs: CompositeInputs, outputs: dict[str, torch.Tensor], cotangents: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """One entry for each result and gradient; rays as rows ``[R, L]``, short ones padded."""
    rows = _rows(inputs)
    inside = rows >= 0

    def pad(x: torch.Tensor) -> torch.Tensor:
        flat = x.detach().double().flatten(0, inputs.values.dim() - 1)
        flat = torch.cat((flat, flat.new_zeros((1, *flat.shape[1:]))))  # row -1: the padding
        return flat[rows]

    def unpad(x: torch.Tensor) -> torch.Tensor:
        flat = x.new_zeros((inputs.values.numel(), *x.shape[2:]))
        flat[rows[inside]] = x[inside]
        return flat.view(*inputs.values.shape, *x.shape[2:])

    def cotangent(name: str) -> torch.Tensor:
        found = cotangents.get(name)
        return (torch.zeros_like(outputs[name]) if found is None else found.double()).abs()

    middle = pad((inputs.t_starts.double() + inputs.t_ends.double()) * 0.5).abs()
    dt = pad(inputs.t_ends.double() - inputs.t_starts.double())
    rgbs, values = pad(inputs.rgbs), pad(inputs.values)
    weights, trans = pad(outputs["weights"]), pad(outputs["transmittance"])
    if inputs.is_alpha:
        alpha, keep, slope = values, 1.0 - values, torch.ones_like(values)
    else:
        tau = values.clamp(0.0, FLOAT32_MAX) * dt
        alpha, keep, slope = -torch.expm1(-tau), torch.exp(-tau), torch.exp(-tau) * dt
    samples = rows.shape[1]
    background = torch.zeros(3, dtype=torch.float64) if inputs.background is None else inputs.background.double()
    background = background.expand(inputs.rays, 3)
    grad_rgb = cotangent("rgb")
    q = (grad_rgb[:, None] * (rgbs + background[:, None])).sum(-1)
    q = q + cotangent("depth")[:, None] * middle + cotangent("opacity")[:, None] + pad(cotangent("weights"))
    h = pad(cotangent("transmittance"))
    behind = torch.zeros_like(q)  # what comes after each sample, every term taken as positive
    carry = q.new_zeros(inputs.rays)
    for i in reversed(range(samples)):
        behind[:, i] = carry
        carry = torch.where(trans[:, i] >= inputs.early_stop_eps, q[:, i] * alpha[:, i] + h[:, i], 0.0)
        carry = carry + keep[:, i] * behind[:, i]
    relative = product(samples, -trans.clamp(min=TINY).log())  # [R, L]
    flat = product(samples)
    tiny = TINY * (samples + 1)
    scale = (q + behind).amax(-1, keepdim=True) if q.numel() else q
    lost_opacity = flat * outputs["opacity"].abs()[:, None] * background
    out = {
        "rgb": flat * ((weights[..., None] * rgbs).sum(1) + background) + lost_opacity + tiny,
        "depth": flat * (weights * middle).sum(1) + tiny * 10.0,
        "opacity": flat * outputs["opacity"] + tiny,
        "weights": unpad(relative * weights + tiny),
        "transmittance": unpad(relative * trans + tiny),
        "grad_values": unpad(relative * trans * slope * (q + behind) + tiny * scale * slope.clamp(min=1.0)),
        "grad_rgbs": unpad((relative * weights + tiny)[..., None] * grad_rgb[:, None]),
        "grad_background": flat * grad_rgb + tiny,
    }
    if inputs.background is not None and inputs.background.dim() == 1:
        out["grad_background"] = out["grad_background"].sum(0)
    return out


def _rows(inputs: CompositeInputs) -> torch.Tensor:
    """Index of each ray's samples, ``[R, longest]``, -1 where a ray is shorter."""
    if inputs.packed_info is None:
        return torch.arange(inputs.values.numel()).view(inputs.values.shape)
    start, count = inputs.packed_info.long().unbind(-1)
    slot = torch.arange(int(count.max()) if len(count) else 0)[None]
    return torch.where(slot < count[:, None], start[:, None] + slot, -1)
