"""The error that rounding alone can cause in a float32 sum of products."""

from __future__ import annotations

EPS = 2.0**-23
"""Distance from 1 to the next float32: twice the greatest relative rounding error of one operation."""
DEVIATIONS = 4.0
"""Number of standard deviations that a sum may be off. Four are enough for 10^5 entries, because the sum of the
absolute values is far above most partial sums. The fused network reaches 0.25 of this tolerance in the forward pass and
0.35 in the gradients."""


def products(count: int) -> float:
    """Return the standard deviation of the rounding error of a sum of ``count`` products and a bias, relative to the
    sum of their absolute values.

    Each addition errs by at most EPS / 2, evenly distributed. Independent errors grow with the square root of their
    number (Higham and Mary 2019). The worst case, count * EPS / 2, would be too loose to detect a fault.
    """
    return EPS * ((count + 1) / 12.0) ** 0.5
