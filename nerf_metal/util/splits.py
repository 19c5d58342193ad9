"""The names of the splits of a scene."""

from typing import Literal, get_args

SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = get_args(SplitName)
"""A field trains on train. val and test hold the held-out views; a capture without its own lists has one set for
both."""
