"""``nerf-metal inspect``: check a folder of photographs before training on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from nerf_metal.cli.arguments import read_options
from nerf_metal.train.options import TrainConfig
from nerf_metal.util.errors import InputError

NAMED = 6  # views of a finding that are printed; the picture marks all of them


@dataclass(frozen=True)
class InspectOptions:
    """Print what a folder of photographs holds and what is probably wrong with it.

    A picture shows its cameras and the scene's box.

    The options have the same meaning as those of nerf-metal train.
    """

    data: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """Folder with the photographs and their camera poses."""
    out: str = "inspect.png"
    """File for the picture of the cameras."""
    format: str = "auto"
    """Format of the folder. auto recognises it by its files. A wrong name lists the formats."""
    overwrite: bool = False
    """Replace --out even if this command did not make that file."""
    downscale: int | None = None
    """Reduce width and height of the images by this factor. None chooses by their size."""
    hold_out: int = TrainConfig.hold_out
    """Hold out every N-th photograph for testing, starting with the first."""
    orient: bool = TrainConfig.orient
    """Rotate the capture so that up in the photographs is up in the scene."""
    scene_scale: float = TrainConfig.scene_scale
    """Enlarge the capture by this factor, so that less of it lies inside the central box."""
    cascades: int | None = None
    """Number of nested boxes, each twice as large as the one inside it. None chooses by the capture."""
    max_memory: float = TrainConfig.max_memory
    """Memory limit in GB for images, weights and activations."""


def run(args: Sequence[str]) -> int:
    """Run the command and return 0, whatever it finds."""
    options = read_options(InspectOptions, "inspect", args)
    given = dict(vars(options))
    out = Path(given.pop("out"))
    if out.is_dir() or not out.parent.is_dir():
        raise InputError(f"[inspect] --out must be a file in a folder that exists, got {out}; make the folder first")
    overwrite = given.pop("overwrite")
    config = TrainConfig(**given)

    # Torch is imported from here on, so that help and wrong options are answered at once.
    from nerf_metal.inspect import find_mistakes, is_ours, list_facts, plot_cameras
    from nerf_metal.train.scenes import open_scene
    from nerf_metal.util.text import wrap

    def show(text: str, indent: int) -> None:
        print("\n".join(wrap(text, rest=" " * indent)))

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
        show(f"  {name}".ljust(width) + value, width)
    for note in scene.notes:
        show(f"note: {note}", 6)
    print()
    for number, finding in enumerate(findings, 1):
        show(f"{number}. {finding.sentence} [{finding.name}]", 3)
        show(f"   Seen from: {finding.evidence}.", 3)
        if finding.views:
            more = len(finding.views) - NAMED
            show(f"   Views: {', '.join(finding.views[:NAMED])}{f' and {more} more' if more > 0 else ''}", 3)
        show(f"   Advice: {finding.advice}.", 3)
    if not findings:
        print("No likely mistakes found.")
    return 0
