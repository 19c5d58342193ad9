"""Adam as one pass over memory: for tables of which a batch touches a part, and for everything else."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from nerf_metal import ops
from nerf_metal.ops.adam import check_options
from nerf_metal.ops.checks import check_contiguous


class FusedAdam(torch.optim.Optimizer):
    """Adam (Kingma and Ba 2015) on :func:`nerf_metal.ops.adam_step`, a launch for each parameter.

    :meth:`step` sets every gradient that it used to 0 in the same pass and keeps its tensor: the next backward adds to
    it, and ``zero_grad`` need not be called in between. ``zero_grad(set_to_none=False)`` would write the zeros again;
    ``zero_grad()`` would give the memory back. One of them is still needed where a gradient was computed and no step
    taken.

    Parameters with ``sparse`` in their group are updated where their gradient is not 0 and nowhere else, moments
    included. The state of each is named as by :class:`torch.optim.Adam`, whose state it can load, and the reverse:
    ``step`` (a float32 scalar on the CPU), ``exp_avg``, ``exp_avg_sq``.

    Args:
        params: parameters, or groups of them as dicts that may have ``lr``, ``betas``, ``eps`` and ``sparse`` of their
            own. Contiguous; float32, other float types by the reference.
        lr: learning rate; this and the others as in instant-ngp (Müller et al. 2022, section 4).
        betas: decays of the moments.
        eps: added to the root of the second moment.
        sparse: leave entries alone whose gradient is exactly 0.
        backend: of the steps, see :mod:`nerf_metal.ops`.

    Raises:
        ValueError: for numbers that Adam cannot work with, and for parameters that are not contiguous.
    """

    clears_gradients = True
    """A step leaves all gradients that it used at 0."""

    def __init__(
        self,
        params: Iterable[torch.Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-2,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-15,
        *,
        sparse: bool = False,
        backend: str = "auto",
    ) -> None:
        """Check the numbers of every group; the states come with the first step."""
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "sparse": sparse})
        self.backend = backend

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, as :class:`torch.optim.Optimizer` does, once its numbers and parameters are right."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        check_options("FusedAdam", group["lr"], group["betas"], group["eps"])
        for param in group["params"]:
            check_contiguous("FusedAdam", "params", param, "make it of a .contiguous() tensor")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient, and set that gradient to 0.

        Args:
            closure: computes the loss and its gradients anew; called once before the update.

        Returns:
            What the closure returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for param in group["params"]:
                if param.grad is None:
                    continue
                if not param.grad.is_sparse and not param.grad.is_contiguous():
                    param.grad = param.grad.contiguous()
                state = self._state_of(param)
                ops.adam_step(
                    param,
                    param.grad,
                    state["exp_avg"],
                    state["exp_avg_sq"],
                    step=int(state["step"]) + 1,
                    lr=group["lr"],
                    beta1=beta1,
                    beta2=beta2,
                    eps=group["eps"],
                    sparse=group["sparse"],
                    backend=self.backend,
                )
                state["step"] += 1
        return loss

    def __getstate__(self) -> dict[str, Any]:
        """What a copy is made of: torch's own list would leave the backend out."""
        return super().__getstate__() | {"backend": self.backend}

    def _state_of(self, param: torch.Tensor) -> dict[str, torch.Tensor]:
        state: dict[str, torch.Tensor] = self.state[param]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["exp_avg"] = torch.zeros_like(param)
            state["exp_avg_sq"] = torch.zeros_like(param)
        return state
