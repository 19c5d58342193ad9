"""One step of Adam in pure torch: the specification of ``metal/adam.metal``."""

from __future__ import annotations

import math

import torch


@torch.no_grad()
def adam_step(
    param: torch.Tensor,
    grad: torch.Tensor,
    exp_avg: torch.Tensor,
    exp_avg_sq: torch.Tensor,
    *,
    step: int,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.99,
    eps: float = 1e-15,
    sparse: bool = True,
    clear_grad: bool = True,
    half_copy: torch.Tensor | None = None,
) -> None:
    """Update a tensor and its moments in place (Kingma and Ba 2015, algorithm 1)::

        m = beta1 m + (1 - beta1) g          v = beta2 v + (1 - beta2) g^2
        param -= lr m / (1 - beta1^step) / (sqrt(v / (1 - beta2^step)) + eps)

    ``sparse`` is for tables of which a batch reads a part: an entry whose gradient is exactly 0 keeps its value and
    both moments, as instant-ngp treats its hash tables (Müller et al. 2022, section 4). Its moments do not decay while
    it waits, and the bias corrections are those of the step, not of the entry's own count. ``sparse=False`` is Adam as
    published, where an entry without a gradient still moves along its first moment.

    Args:
        param: the values, any shape, any float dtype.
        grad: their gradient; with ``clear_grad`` 0 afterwards.
        exp_avg: first moment ``m``, 0 before the first step.
        exp_avg_sq: second moment ``v``, 0 before the first step.
        step: counts from 1.
        lr: learning rate, units of ``param`` a step.
        beta1: decay of ``m``.
        beta2: decay of ``v``; 0.99 as in instant-ngp.
        eps: added to the root of ``v``; 1e-15 as in instant-ngp, for entries whose gradients are rare and weak.
        sparse: leave entries without a gradient alone.
        clear_grad: set ``grad`` to 0, which saves a pass over memory.
        half_copy: float16, like ``param``: takes the new values of updated entries.
    """
    first = beta1 * exp_avg + (1.0 - beta1) * grad
    second = beta2 * exp_avg_sq + (1.0 - beta2) * grad * grad
    rate, scale = bias_corrections(step, lr, beta1, beta2)
    value = param - rate * first / (second.sqrt() * scale + eps)
    touched = grad != 0 if sparse else torch.ones_like(grad, dtype=torch.bool)
    if half_copy is not None:
        half_copy.copy_(torch.where(touched, value.to(half_copy.dtype), half_copy))
    for tensor, new in ((param, value), (exp_avg, first), (exp_avg_sq, second)):
        tensor.copy_(torch.where(touched, new, tensor))
    if clear_grad:
        grad.zero_()


def bias_corrections(step: int, lr: float, beta1: float, beta2: float) -> tuple[float, float]:
    """``lr / (1 - beta1^step)``, by which the first moment counts, and ``1 / sqrt(1 - beta2^step)``, by which the
    root of the second does."""
    return lr / (1.0 - beta1**step), 1.0 / math.sqrt(1.0 - beta2**step)
