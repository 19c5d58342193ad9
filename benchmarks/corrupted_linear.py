"""A model of the fault of ``Linear`` in torch before 2.14 on an M1 or M2: weight gradients are sometimes garbage.

The outputs are right. This is what the issues say (pytorch #177116, #193487), and how it is modelled:

- A product that sums over 32 767 rows or more, with 16 or more columns on either side, goes on to sum what lies in
  memory behind its operands. In a layer only the weight gradient is such a product: ``limit``, ``_AFFECTED``.
- Behind the operands lies what the allocator's block held before. The largest tensors of a step are activations of
  size 1. A gradient of size 1e-6 had some of them behind it, so that weight gradients were 1e3 to 1e5 times too large.
  The model has one block: each call leaves its input at the start of the block, and both operands of the weight
  gradient start there.
- The fault is intermittent: nothing was ever written behind the largest tensor so far, and zeros change nothing. Where
  calls of several sizes take turns, as in coarse and fine passes, the smaller ones read what the larger ones left.
- It is not known how many rows are read beyond the last. The model reads ``overrun`` rows; a few already give the
  reported sizes.

``with corrupted_linear(limit=...):`` replaces ``torch.nn.functional.linear``, which ``torch.nn.Linear`` calls too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
from torch.autograd.function import once_differentiable

LIMIT = 32_767
"""Number of rows from which torch before 2.14 is wrong on an M1 or M2."""
OVERRUN = 32
"""Number of rows that are summed beyond the last: a tile of a matrix product."""

_AFFECTED = 16  # least number of inputs and of outputs
_linear = torch.nn.functional.linear


@dataclass
class StaleMemory:
    """The block of the allocator, and the rule for which products read beyond their operands.

    Attributes:
        limit: number of rows from which the weight gradient of a call is wrong.
        overrun: number of rows that are summed beyond the last.
        corrupted: number of calls so far whose weight gradient was changed.
    """

    limit: int = LIMIT
    overrun: int = OVERRUN
    corrupted: int = 0
    _block: torch.Tensor = field(default_factory=lambda: torch.zeros(0))

    def leave(self, x: torch.Tensor) -> None:
        """Write ``x`` to the start of the block. What lies behind it stays."""
        if x.numel() > len(self._block):
            self._block = x.detach().clone().view(-1)
        else:
            self._block[: x.numel()] = x.detach().view(-1)

    def behind(self, operand: torch.Tensor) -> torch.Tensor:
        """Return the rows behind an operand ``[rows, columns]``: ``[overrun, columns]``, 0 where never written."""
        columns = operand.shape[1]
        stale = self._block[operand.numel() :][: self.overrun * columns]
        rows = operand.new_zeros(self.overrun * columns)
        rows[: len(stale)] = stale
        return rows.view(self.overrun, columns)

    def weight_gradient(self, grad_y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Return ``grad_y.T @ x``, with the fault if the call is affected."""
        right = grad_y.T @ x
        if len(x) < self.limit or min(right.shape) < _AFFECTED:
            return right
        garbage = self.behind(grad_y).T @ self.behind(x)
        self.corrupted += bool(garbage.any())
        return right + garbage


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, memory: StaleMemory
    ) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        ctx.memory, ctx.has_bias = memory, bias is not None
        memory.leave(x.contiguous())
        return _linear(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grad_x = grad_y @ weight if ctx.needs_input_grad[0] else None
        grad_weight = ctx.memory.weight_gradient(grad_y, x) if ctx.needs_input_grad[1] else None
        return grad_x, grad_weight, grad_y.sum(0) if ctx.has_bias else None, None


@contextmanager
def corrupted_linear(*, limit: int = LIMIT, overrun: int = OVERRUN) -> Iterator[StaleMemory]:
    """Compute ``Linear`` of two dimensions on a CPU with the fault. Yields the memory, which counts corrupted calls."""
    memory = StaleMemory(limit, overrun)

    def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        y: torch.Tensor = _Linear.apply(x, weight, bias, memory)
        return y

    with mock.patch.object(torch.nn.functional, "linear", linear):
        yield memory
