"""How far rounding alone may carry a float32 sum of products from the right one."""

from __future__ import annotations

EPS = 2.0**-23
"""From 1 to the next float32, twice the rounding error of one operation."""
DEVIATIONS = 4.0
"""Standard deviations that a sum may be off. The sum of the absolute values is far above most partial sums, so that
four are enough for 10^5 entries. Worst over tolerance, of the fused network: forward 0.25, gradients 0.35."""


def products(count: int) -> float:
    """Standard deviation of the rounding of a sum of so many products and a bias, over the sum of absolute values.

    Half an EPS at most, evenly distributed, for each sum; that they are independent makes it a root (Higham and Mary
    2019). The worst case, count / 2 EPS, layer after layer, would be no limit at all.
    """
    return EPS * ((count + 1) / 12.0) ** 0.5
