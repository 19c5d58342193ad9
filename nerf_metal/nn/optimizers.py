"""The Adam optimizer as one pass over memory, for tables of which a batch touches a part and for all other weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from nerf_metal import ops
from nerf_metal.ops.adam import check_options
from nerf_metal.ops.checks import check_contiguous


class FusedAdam(torch.optim.Optimizer):
    """The Adam optimizer (Kingma and Ba 2015, algorithm 1) with one launch of :func:`nerf_metal.ops.adam_step` for each
    parameter.

    :meth:`step` sets every gradient that it has used to 0 in the same pass, and keeps the tensor. The next backward
    pass adds to it, so that you need not call ``zero_grad`` in between. Call it only to drop a gradient without a step.

    A parameter whose group has ``sparse`` is updated only where its gradient is not 0, moments included. The state has
    the names and dtypes of :class:`torch.optim.Adam`, and each can load the state of the other: ``step`` (a float32
    scalar on the CPU), ``exp_avg``, ``exp_avg_sq``.

    Args:
        params: parameters, or groups of them as dicts that may have their own ``lr``, ``betas``, ``eps`` and
            ``sparse``. They are contiguous, and float32; other float dtypes run on the ``torch`` backend.
        lr: learning rate. The defaults of this and the next two are instant-ngp's (Müller et al. 2022, section 4).
        betas: decays of the first and second moment, each in [0, 1).
        eps: number added to the root of the second moment, at least 1e-30.
        sparse: leave elements alone whose gradient is exactly 0.
        backend: ``"auto"``, ``"metal"``, ``"host"`` or ``"torch"``, see :mod:`nerf_metal.ops`.

    Raises:
        ValueError: if Adam cannot work with a number, or if a parameter is not contiguous.
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
        """Check the numbers of every group. The first step makes the states."""
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "sparse": sparse})
        self.backend = backend

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group as :class:`torch.optim.Optimizer` does, and check its numbers and parameters."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        check_options("FusedAdam", group["lr"], group["betas"], group["eps"])
        for param in group["params"]:
            check_contiguous("FusedAdam", "params", param, "make it of a .contiguous() tensor")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient, and set that gradient to 0.

        Args:
            closure: computes the loss and its gradients; called once before the update.

        Returns:
            The loss that the closure returned, or None.
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
        """Return what a copy is made of. Torch's own list lacks the backend."""
        return super().__getstate__() | {"backend": self.backend}

    def _state_of(self, param: torch.Tensor) -> dict[str, torch.Tensor]:
        state: dict[str, torch.Tensor] = self.state[param]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["exp_avg"] = torch.zeros_like(param)
            state["exp_avg_sq"] = torch.zeros_like(param)
        return state
