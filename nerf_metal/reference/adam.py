"""Adam in pure torch: the specification of ``metal/adam.metal``."""

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
    """Do one step of Adam in place (Kingma and Ba, "Adam", ICLR 2015, algorithm 1)::

        m = beta1 m + (1 - beta1) g          v = beta2 v + (1 - beta2) g^2
        param -= lr m / (1 - beta1^step) / (sqrt(v / (1 - beta2^step)) + eps)

    ``sparse`` is for tables of which a batch reads only a part. An entry whose gradient is exactly 0 keeps its value
    and both moments, as in the hash tables of instant-ngp (Müller et al. 2022, section 4). Its moments do not decay
    meanwhile, and the bias corrections follow the step, not the number of updates of the entry. ``sparse=False`` is
    Adam as published: an entry without a gradient still moves along its first moment.

    Args:
        param: values to update, any shape, any float dtype.
        grad: gradient of the values, same shape. It is 0 afterwards if ``clear_grad`` is set.
        exp_avg: first moment ``m``, same shape, 0 before the first step.
        exp_avg_sq: second moment ``v``, same shape, 0 before the first step.
        step: number of the step, starting with 1.
        lr: learning rate, in units of ``param`` per step.
        beta1: decay of ``m``.
        beta2: decay of ``v``; 0.99 as in instant-ngp.
        eps: constant added to the root of ``v``; 1e-15 as in instant-ngp, for entries with rare and weak gradients.
        sparse: leave entries without a gradient unchanged.
        clear_grad: set ``grad`` to 0. This saves a pass over memory.
        half_copy: float16 tensor of the same shape that receives the new values of the updated entries; None for none.
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
    """Return the bias corrections of a step (Kingma and Ba 2015, section 3).

    Args:
        step: number of the step, starting with 1.
        lr: learning rate.
        beta1: decay of the first moment.
        beta2: decay of the second moment.

    Returns:
        ``lr / (1 - beta1^step)``, the factor of the first moment, and ``1 / sqrt(1 - beta2^step)``, the factor of the
        root of the second moment.
    """
    return lr / (1.0 - beta1**step), 1.0 / math.sqrt(1.0 - beta2**step)
