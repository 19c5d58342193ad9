"""Run the composite kernels on a named case in some mode and compare them with what is expected; and the accuracy of
one interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from nerf_metal import ops
from nerf_metal.selftest.composite_expected import Expected
from nerf_metal.selftest.modes import Mode
from nerf_metal.selftest.tolerances import ALPHA, EXP_ULPS, all_close, close, require


def run_composite(want: Expected, mode: Mode) -> dict[str, torch.Tensor | None]:
    """Results, and as ``grad_*`` gradients to values, colours and background; None where none arrived."""
    inputs, cotangents = want.inputs, want.cotangents
    leaves = {"values": inputs.values, "rgbs": inputs.rgbs}
    if inputs.background is not None:
        leaves["background"] = inputs.background
    moved = {k: mode.place(v).requires_grad_() for k, v in leaves.items()}
    with mode.active() as backend:
        result = ops.composite_rays(
            mode.place(inputs.t_starts),
            mode.place(inputs.t_ends),
            moved["rgbs"],
            None if inputs.is_alpha else moved["values"],
            moved["values"] if inputs.is_alpha else None,
            packed_info=None if inputs.packed_info is None else mode.place(inputs.packed_info),
            background=moved.get("background"),
            early_stop_eps=inputs.early_stop_eps,
            backend=backend,
        )
        outputs = dict(result._asdict())
        if cotangents:
            torch.autograd.backward([outputs[k] for k in cotangents], [mode.place(g) for g in cotangents.values()])
    return {k: v.detach() for k, v in outputs.items()} | {f"grad_{k}": v.grad for k, v in moved.items()}


def compare_composite(want: Expected, got: Mapping[str, torch.Tensor | None], where: str = "") -> dict[str, float]:
    """Worst error over tolerance of each result and gradient; fails where one exceeds 1."""
    dtypes = {f"grad_{name}": want.inputs.values.dtype for name in ("values", "rgbs")}
    for name, value in got.items():
        dtype = dtypes.get(name, torch.float32)
        found = None if value is None else value.dtype
        require(found == dtype, f"{where} {name} must be {dtype}, got {found}")
    return all_close(got, want.outputs | want.grads, want.tolerance, where)


@dataclass(frozen=True)
class IntervalCase:
    """One interval of length 1 in front of an empty one; ``kind`` is "exp", its transmittance, or "alpha", its
    opacity."""

    name: str
    kind: str

    def depths(self) -> torch.Tensor:
        """Optical thicknesses of the interval."""
        if self.kind == "exp":
            return torch.cat((torch.linspace(0.0, 87.0, 4001), torch.logspace(-12, 0, 1001)))
        return torch.cat((torch.logspace(-30, 1.9, 3001), torch.linspace(0.2, 0.4, 2001)))


INTERVAL_CASES = IntervalCase("exp-within-2-ulp", "exp"), IntervalCase("alpha-of-one-interval", "alpha")


def run_interval(case: IntervalCase, mode: Mode) -> dict[str, torch.Tensor]:
    """Weight of the first interval, from 0 to 1, and the transmittance behind it: exp(-sigma), sigma exact."""
    sigmas = case.depths()
    edges = mode.place(torch.tensor([0.0, 1.0, 2.0]).expand(len(sigmas), 3))
    densities = mode.place(torch.stack((sigmas, torch.zeros_like(sigmas)), -1))
    rgbs = mode.place(torch.zeros(len(sigmas), 2, 3))
    with mode.active() as backend:
        got = ops.composite_rays(edges[:, :-1], edges[:, 1:], rgbs, densities, backend=backend)
    return {"alpha": got.weights[:, 0], "exp": got.transmittance[:, 1]}


def compare_interval(case: IntervalCase, got: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Error over tolerance of what the case is about."""
    tau = case.depths().double()
    if case.kind == "exp":
        want = torch.exp(-tau)
        limit = EXP_ULPS * 2.0 ** (torch.frexp(want)[1] - 24).double()
    else:
        want = -torch.expm1(-tau)
        limit = want * ALPHA
    return {case.kind: close(got[case.kind], want, case.kind, limit, case.name)}
