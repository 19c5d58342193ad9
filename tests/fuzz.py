"""How long hypothesis looks: ``HYPOTHESIS_PROFILE=long`` takes a hundred times the examples, other ones in each run."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

_LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"


def examples(count: int) -> settings:
    """Settings of a test that makes do with so many examples, the same in every run, where a change is tested."""
    return settings(
        max_examples=100 * count if _LONG else count,
        derandomize=not _LONG,
        database=None,  # nothing is written into the checkout
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
