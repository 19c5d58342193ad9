"""``Linear`` as torch before 2.14 computes it on an M1 or M2: outputs right, weight gradients now and then garbage.

What the issues say (pytorch #177116, #193487), and how it is modelled:

- A product that sums over 32 767 rows or more, with 16 or more columns on either side, sums on into what lies in memory
  behind its operands. Of a layer that is its weight gradient alone: ``limit``, ``_AFFECTED``.
- What lies there is what the allocator's block held before. The largest tensors of a step are activations, numbers of
  size 1, and the block behind a gradient of size 1e-6 held some too: hence weight gradients 1e3 to 1e5 times too large.
  Here the block is one for all: each call leaves its input at the block's beginning, and both operands of the
  weight gradient begin there.
- Intermittent: behind the largest tensor so far nothing was ever written, and garbage of zeros changes nothing. Where
  calls of several sizes take turns, as coarse and fine passes do, the smaller ones read what the larger ones left.
- How far they sum on is not known. ``overrun`` rows: a few of them already give the reported sizes.

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
"""Rows from which torch before 2.14 is wrong on an M1 or M2."""
OVERRUN = 32
"""Rows that are summed beyond the last: a tile of a matrix product."""

_AFFECTED = 16  # least width, in and out
_linear = torch.nn.functional.linear


@dataclass
class StaleMemory:
    """The allocator's block, and which products sum into it.

    Attributes:
        limit: rows of a call from which its weight gradient is wrong.
        overrun: rows that are summed beyond the last.
        corrupted: calls so far whose weight gradient came out different.
    """

    limit: int = LIMIT
    overrun: int = OVERRUN
    corrupted: int = 0
    _block: torch.Tensor = field(default_factory=lambda: torch.zeros(0))

    def leave(self, x: torch.Tensor) -> None:
        """What was at the block's beginning is ``x`` now; what was behind stays."""
        if x.numel() > len(self._block):
            self._block = x.detach().clone().view(-1)
        else:
            self._block[: x.numel()] = x.detach().view(-1)

    def behind(self, operand: torch.Tensor) -> torch.Tensor:
        """The rows that follow an operand ``[rows, columns]``; zeros where nothing was ever written."""
        columns = operand.shape[1]
        stale = self._block[operand.numel() :][: self.overrun * columns]
        rows = operand.new_zeros(self.overrun * columns)
        rows[: len(stale)] = stale
        return rows.view(self.overrun, columns)

    def weight_gradient(self, grad_y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """``grad_y.T @ x``, or what the faulty product makes of it."""
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
    """Compute ``Linear`` of two dimensions on a CPU with the fault; gives the memory, which counts what it did."""
    memory = StaleMemory(limit, overrun)

    def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        y: torch.Tensor = _Linear.apply(x, weight, bias, memory)
        return y

    with mock.patch.object(torch.nn.functional, "linear", linear):
        yield memory
