"""``nerf-metal presets``: compare the options that presets set."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import tyro

from nerf_metal.cli.arguments import read_options
from nerf_metal.train import options
from nerf_metal.train.presets import PRESETS
from nerf_metal.util.errors import InputError

FIELDS = ("hashgrid", "frequency")
"""Groups of options that are used only with the field of the same name."""

USUAL = ("baseline", "stable", "fast")


@dataclass(frozen=True)
class PresetsOptions:
    """Print the options that presets set, side by side.

    A star marks a value that differs from that in the first column.
    """

    names: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[NAME ...]")] = field(default=USUAL)
    """Presets to compare."""
    different: bool = False
    """Print only the options whose values differ."""


def run(args: Sequence[str]) -> int:
    """Run the command and return 0."""
    chosen = read_options(PresetsOptions, "presets", args)
    names = chosen.names
    unknown = [name for name in names if name not in PRESETS]
    if unknown:
        raise InputError(
            f"[presets] names must be of {', '.join(PRESETS)}, got {unknown[0]}; leave them out for {', '.join(USUAL)}"
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
    print(
        f"\nA star (*) marks a value that differs from {names[0]}. A dash (-) means\n"
        "no limit, no value, or an option that the preset does not use."
    )
    print("nerf-metal train --preset NAME --help explains the options; each can be changed.")
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
