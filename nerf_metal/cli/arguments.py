"""Reading the options of ``nerf-metal train``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from nerf_metal.train.options import GROUPS, TrainConfig


def given(args: Sequence[str], option: str) -> str | None:
    """The value given to ``option`` (``--name value`` or ``--name=value``) in arguments, the last one;
    else None."""
    value = None
    for position, word in enumerate(args):
        if word == option and position + 1 < len(args):
            value = args[position + 1]
        elif word.startswith(option + "="):
            value = word[len(option) + 1 :]
    return value


def parse(args: Sequence[str], default: TrainConfig) -> TrainConfig:
    """Read ``nerf-metal train`` options over ``default``.

    Raises:
        InputError: a value is out of its range.
        SystemExit: ``--help``, or words that are no options (tyro prints which).
    """
    import tyro  # not needed by those who build a TrainConfig in Python

    limits = {name: given(args, f"--{name.replace('_', '-')}") for name in ("steps", "epochs", "max_seconds")}
    if limits["steps"] is not None or limits["epochs"] is not None:
        # 1: overridden by what was given
        default = dataclasses.replace(default, **{name: text and 1 for name, text in limits.items()})  # type: ignore[arg-type]
    # tyro groups the help by nested dataclass: nest for the parser alone, and flatten what it returns.
    nested = dataclasses.make_dataclass("Options", [(name, kind) for name, kind in GROUPS.items()])
    defaults = {
        name: kind(**{field.name: getattr(default, field.name) for field in dataclasses.fields(kind)})
        for name, kind in GROUPS.items()
    }
    options = tyro.cli(
        nested,
        prog="nerf-metal train",
        description=("Train a NeRF. Without options: the scene of the package, on the best device, in minutes."),
        args=list(args),
        default=nested(**defaults),
        config=(tyro.conf.OmitArgPrefixes,),
    )
    flat: dict[str, Any] = {}
    for name in GROUPS:
        flat.update(vars(getattr(options, name)))
    return TrainConfig(**flat)
