"""Run the composite kernels on a named case in some mode and compare them with what is expected."""

from __future__ import annotations

import torch

from nerf_metal import ops
from tests.ops.cases import CompositeInputs
from tests.ops.modes import Mode
from tests.ops.oracle import Expected
from tests.tolerances import all_close


def run(
    inputs: CompositeInputs, cotangents: dict[str, torch.Tensor], mode: Mode
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor | None]]:
    """Results, and gradients to values, colours and background (None where none arrived)."""
    leaves = {"values": inputs.values, "rgbs": inputs.rgbs}
    if inputs.background is not None:
        leaves["background"] = inputs.background
    # A detached alias keeps strides and storage offsets, which are part of the case.
    moved = {k: v.detach().to(mode.device).requires_grad_() for k, v in leaves.items()}
    with mode.active() as backend:
        result = ops.composite_rays(
            inputs.t_starts.to(mode.device),
            inputs.t_ends.to(mode.device),
            moved["rgbs"],
            None if inputs.is_alpha else moved["values"],
            moved["values"] if inputs.is_alpha else None,
            packed_info=None if inputs.packed_info is None else inputs.packed_info.to(mode.device),
            background=moved.get("background"),
            early_stop_eps=inputs.early_stop_eps,
            backend=backend,
        )
        outputs = dict(result._asdict())
        if cotangents:
            torch.autograd.backward([outputs[k] for k in cotangents], [g.to(mode.device) for g in cotangents.values()])
    return {k: v.detach() for k, v in outputs.items()}, {f"grad_{k}": v.grad for k, v in moved.items()}


def compare(want: Expected, mode: Mode) -> dict[str, float]:
    """Worst error over tolerance of each result and gradient; fails where one exceeds 1."""
    outputs, grads = run(want.inputs, want.cotangents, mode)
    for name, value in outputs.items():
        assert value.dtype == torch.float32, name
    for name in ("values", "rgbs"):
        got = grads[f"grad_{name}"]
        assert got is not None and got.dtype == want.inputs.values.dtype, name
    ratios = all_close(outputs, want.outputs, want.tolerance, mode.name)
    return ratios | all_close(grads, want.grads, want.tolerance, mode.name)
