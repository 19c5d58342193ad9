"""``nerf-metal presets``: the presets side by side, differences marked."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import tyro

from nerf_metal.train import options
from nerf_metal.train.presets import PRESETS
from nerf_metal.util.errors import InputError

FIELDS = ("hashgrid", "frequency")
"""Groups of options that count with the field of their name alone."""


@dataclass(frozen=True)
class PresetsOptions:
    """Show what presets set, side by side. A star marks a value that differs from the first column's."""

    names: Annotated[tuple[str, ...], tyro.conf.Positional] = field(default=("baseline", "stable", "fast"))
    """Presets to show."""
    different: bool = False
    """Leave out options that are equal in all of them."""


def run(args: Sequence[str]) -> int:
    """Print the table; returns 0."""
    chosen = tyro.cli(PresetsOptions, prog="nerf-metal presets", args=list(args))
    names = chosen.names
    unknown = [name for name in names if name not in PRESETS]
    if unknown:
        raise InputError(
            f"[presets] names must be of {', '.join(PRESETS)}, got {unknown[0]}; leave them out for the usual three"
        )
    configs = [options.preset_config(name) for name in names]
    lines = [_row("", names)]
    for group, kind in options.GROUPS.items():
        rows = []
        for option in dataclasses.fields(kind):
            if option.name == "preset" or option.name not in options.KEPT:
                continue
            values = [_value(config, group, option.name) for config in configs]
            if chosen.different and len(set(values)) == 1:
                continue
            cells = [value + ("*" if value != values[0] else "") for value in values]
            rows.append(_row(f" {option.name}", cells))
        if rows:
            lines += [group, *rows]
    print("\n".join(lines))
    print(f"\n* differs from {names[0]}; - no limit, none, or not used with that field")
    print("nerf-metal train --preset NAME --help explains the options; each can be given.")
    return 0


def _value(config: options.TrainConfig, group: str, name: str) -> str:
    if group in FIELDS and group != config.field:
        return "-"
    value = getattr(config, name)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    return "-" if value is None else str(value)


def _row(name: str, cells: Sequence[str]) -> str:
    return f"{name:<25}" + "".join(f" {cell:>10}" for cell in cells)  # five of them at 80 columns
