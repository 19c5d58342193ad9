"""The names of a scene's splits. Readers and options share them, and options must not import torch."""

from __future__ import annotations

from typing import Literal, get_args

SplitName = Literal["train", "val", "test"]
SPLITS: tuple[str, ...] = get_args(SplitName)
