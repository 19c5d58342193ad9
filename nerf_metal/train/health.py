"""What a training step says about the health of a run, in numbers that stay on the device until somebody reads them."""

from __future__ import annotations

import torch
from torch import nn

from nerf_metal.models.base import LayerGroups

SAMPLED = 1024
"""Second moments that are looked at of each parameter, at most twice as many: every other one would do as well."""
ROUNDING = 0.99
"""What rounding may take of a moment in some steps, far more than it does."""
LEAST_MOMENT = 1e-30
"""Moments below are left out: their products are near float32's smallest numbers, which a device may take for 0."""


@torch.no_grad()
def gradient_norms(groups: LayerGroups) -> torch.Tensor:
    """Euclidean norm of each group's gradient, ``[G]``; 0 where there is none."""
    device = next(iter(groups.values()))[0].device
    norms = []
    for parameters in groups.values():
        grads = [p.grad for p in parameters if p.grad is not None]
        norms.append(nn.utils.get_total_norm(grads) if grads else torch.zeros((), device=device))
    return torch.stack(norms)


@torch.no_grad()
def weight_norms(groups: LayerGroups) -> torch.Tensor:
    """Euclidean norm of each group's weights, ``[G]``."""
    return torch.stack([nn.utils.get_total_norm([p.detach() for p in group]) for group in groups.values()])


@torch.no_grad()
def update_norms(groups: LayerGroups, optimizer: torch.optim.Optimizer) -> torch.Tensor:
    """Euclidean norm of the update that Adam's moments and present rate stand for, ``[G]``.

    ``lr * m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps)`` (Kingma and Ba 2015, algorithm 1): what the last step
    did to weights of which each step touches all. A table that is updated where it was seen counts as a whole.
    """
    options = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    norms = []
    for parameters in groups.values():
        updates = []
        for parameter in parameters:
            state, option = optimizer.state.get(parameter), options[id(parameter)]
            if not state or float(state["step"]) == 0:
                updates.append(torch.zeros((), device=parameter.device))
                continue
            (beta1, beta2), t = option["betas"], float(state["step"])
            scale = state["exp_avg_sq"].div(1 - beta2**t).sqrt_().add_(option["eps"])
            updates.append((state["exp_avg"] * (option["lr"] / (1 - beta1**t)) / scale).norm())
        norms.append(torch.stack(updates).norm())
    return torch.stack(norms)


class SecondMoments:
    """A sample of Adam's second moments, by which one sees that they were lost.

    ``v <- beta2 v + (1 - beta2) g^2`` (Kingma and Ba 2015, algorithm 1) leaves at least ``beta2^n`` of each after ``n``
    steps, whatever the gradients; also of those in a sparse table, which are left alone or updated so.

    Args:
        optimizer: whose state it is.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        """Nothing is seen yet."""
        self._optimizer = optimizer
        self._before: torch.Tensor | None = None

    @torch.no_grad()
    def lost(self, steps: int) -> float:
        """Part of the sampled moments, in [0, 1], that fell further since the last call, so many steps ago, than Adam
        lets them; 0 at the first call. Waits for the device."""
        beta2 = min(group["betas"][1] for group in self._optimizer.param_groups)
        samples = []
        for state in self._optimizer.state.values():
            flat = state["exp_avg_sq"].view(-1)
            samples.append(flat[:: max(1, len(flat) // SAMPLED)])
        if not samples:
            return 0.0
        now, before = torch.cat(samples), self._before
        self._before = now
        if before is None or len(before) != len(now):
            return 0.0
        fell = (now < before * (beta2**steps * ROUNDING)) & (before > LEAST_MOMENT)
        return float(fell.float().mean())

    def forget(self) -> None:
        """What comes is not what was: the state was replaced."""
        self._before = None


@torch.no_grad()
def not_finite(module: nn.Module) -> str | None:
    """Name of the first weight of ``module`` that is not finite, or whose gradient is not; waits for the device."""
    for name, parameter in module.named_parameters():
        if not bool(parameter.isfinite().all()):
            return name
        if parameter.grad is not None and not bool(parameter.grad.isfinite().all()):
            return f"the gradient of {name}"
    return None
