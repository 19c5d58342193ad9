"""``nerf-metal inspect``: what a folder of images holds, before it is trained on."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from nerf_metal.train.options import TrainConfig
from nerf_metal.util.errors import InputError

COLUMNS = 80  # of a terminal
NAMED = 6  # views of a finding that are printed; all are in the picture


@dataclass(frozen=True)
class InspectOptions:
    """Say what a folder of images holds and what is likely wrong with it, and draw its cameras and box. The options are
    those of nerf-metal train."""

    data: Annotated[str, tyro.conf.Positional]
    """Folder of a scene."""
    out: str = "inspect.png"
    """Picture to write."""
    format: str = "auto"
    """Format of the folder. auto detects it by the files in it; a wrong name lists the formats."""
    overwrite: bool = False
    """Replace --out where it exists and is no picture of this command."""
    downscale: int | None = None
    """Shrink images by this factor."""
    hold_out: int = TrainConfig.hold_out
    """Of photographs, every so many-th is left out of the training."""
    orient: bool = TrainConfig.orient
    """Turn a capture upright."""
    scene_scale: float = TrainConfig.scene_scale
    """Enlarge a capture by this factor within its box."""
    cascades: int | None = None
    """Boxes of a scene, each twice as large as the one before."""
    max_memory: float = TrainConfig.max_memory
    """GB for images, weights and activations."""


def run(args: Sequence[str]) -> int:
    """Inspect as ``args`` say; returns 0, whatever was found."""
    options = tyro.cli(InspectOptions, prog="nerf-metal inspect", args=list(args))
    given = dict(vars(options))
    out = Path(given.pop("out"))
    if out.is_dir() or not out.parent.is_dir():
        raise InputError(f"[inspect] --out must be a file in a folder that exists, got {out}; make the folder first")
    overwrite = given.pop("overwrite")
    config = TrainConfig(**given)
    from nerf_metal.inspect import (  # torch: after help and bad options
        find_mistakes,
        is_ours,
        list_facts,
        plot_cameras,
    )
    from nerf_metal.train.scenes import open_scene

    if out.exists() and not overwrite and not is_ours(out):
        raise InputError(
            f"[inspect] --out must be a new file, got {out}, which exists; add --overwrite or another name"
        )
    scene = open_scene(config)
    findings = find_mistakes(scene)
    plot_cameras(out, scene, findings)
    rows = [*list_facts(scene, config), ("picture", str(out))]
    width = max(len(name) for name, _ in rows) + 4
    for name, value in rows:
        print(_wrapped(f"  {name}".ljust(width) + value, width))
    for note in scene.notes:
        print(_wrapped(f"note: {note}", 6))
    print()
    for number, finding in enumerate(findings, 1):
        print(_wrapped(f"{number}. {finding.sentence} [{finding.name}]", 3))
        print(_wrapped(f"   Seen from: {finding.evidence}.", 3))
        if finding.views:
            more = len(finding.views) - NAMED
            print(_wrapped(f"   Views: {', '.join(finding.views[:NAMED])}{f' and {more} more' if more > 0 else ''}", 3))
        print(_wrapped(f"   Advice: {finding.advice}.", 3))
    if not findings:
        print("No likely mistakes found.")
    return 0


def _wrapped(text: str, indent: int) -> str:
    return textwrap.fill(text, COLUMNS, subsequent_indent=" " * indent, break_on_hyphens=False)
