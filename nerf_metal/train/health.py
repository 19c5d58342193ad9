"""Numbers that show the health of a run: norms of gradients, weights and updates, and the state of Adam.

The numbers stay on the device until they are read, so that a step does not wait for them.
"""

from __future__ import annotations

import torch
from torch import nn

from nerf_metal.models.base import LayerGroups

SAMPLED = 1024
"""Number of second moments that are sampled from each parameter, at most twice as many: a loss concerns all of them."""
ROUNDING = 0.99
"""Factor by which rounding may lower a moment between two samples. It is far more than rounding does."""
LEAST_MOMENT = 1e-30
"""Second moments below this are left out. Their products are near float32's smallest numbers, which a device may round
to 0."""


@torch.no_grad()
def gradient_norms(groups: LayerGroups) -> torch.Tensor:
    """Return the Euclidean norm of each group's gradient, ``[G]``. It is 0 for a group without gradients."""
    device = next(iter(groups.values()))[0].device
    norms = []
    for parameters in groups.values():
        grads = [p.grad for p in parameters if p.grad is not None]
        norms.append(nn.utils.get_total_norm(grads) if grads else torch.zeros((), device=device))
    return torch.stack(norms)


@torch.no_grad()
def weight_norms(groups: LayerGroups) -> torch.Tensor:
    """Return the Euclidean norm of each group's weights, ``[G]``."""
    return torch.stack([nn.utils.get_total_norm([p.detach() for p in group]) for group in groups.values()])


@torch.no_grad()
def update_norms(groups: LayerGroups, optimizer: torch.optim.Optimizer) -> torch.Tensor:
    """Return the Euclidean norm of each group's last update, from Adam's moments and present learning rate, ``[G]``.

    The update is ``lr * m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps)`` (Kingma and Ba 2015, algorithm 1). The
    norm is that of the last step if the step updates every weight. For a sparse table, which a step updates in part,
    it still counts all entries.

    Args:
        groups: parameters that learn, by layer group.
        optimizer: Adam optimizer of these parameters.
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
    """A sample of Adam's second moments that shows whether the state of the optimizer was lost.

    ``v <- beta2 v + (1 - beta2) g^2`` (Kingma and Ba 2015, algorithm 1) leaves at least ``beta2^n v`` after ``n``
    steps, whatever the gradients are. This holds for a sparse table too: a step updates an entry in this way or leaves
    it unchanged.

    Args:
        optimizer: Adam optimizer whose second moments are sampled.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        """Start without a sample."""
        self._optimizer = optimizer
        self._before: torch.Tensor | None = None

    @torch.no_grad()
    def lost(self, steps: int) -> float:
        """Return the fraction of the sampled moments that fell further since the last call than Adam allows.

        The fraction is 0 at the first call. The call waits for the device.

        Args:
            steps: number of steps since the last call.
        """
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
        """Forget the sample. Call this after the state of the optimizer was replaced."""
        self._before = None


@torch.no_grad()
def not_finite(module: nn.Module) -> str | None:
    """Return the name of the first weight of ``module`` that is not finite, or whose gradient is not finite.

    The result is None if all of them are finite. The call waits for the device.
    """
    for name, parameter in module.named_parameters():
        if not bool(parameter.isfinite().all()):
            return name
        if parameter.grad is not None and not bool(parameter.grad.isfinite().all()):
            return f"the gradient of {name}"
    return None
