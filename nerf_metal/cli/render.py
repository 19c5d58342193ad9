"""``nerf-metal render``: write a run's pictures of a split's views."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from nerf_metal.cli.opened import open_run
from nerf_metal.config import Backend


@dataclass(frozen=True)
class RenderOptions:
    """Render views with a run's checkpoint; writes RUN/renders/SPLIT/NAME.png. Files that are there already
    are kept, so that a render that was interrupted goes on."""

    run: Annotated[str, tyro.conf.Positional]
    """Run folder, as nerf-metal train made it."""
    split: Literal["train", "val", "test"] = "test"
    """Whose cameras."""
    views: int | None = None
    """Views of the split, evenly spaced. None: all."""
    overwrite: bool = False
    """Render again what is there already."""
    checkpoint: Literal["last", "best"] = "last"
    """Whose weights: the last whole checkpoint, or the one with the greatest PSNR."""
    device: Literal["auto", "cpu", "mps", "cuda"] = "auto"
    """Where to render. auto: mps, else cuda, else cpu."""
    backend: Backend = "auto"
    """Who computes what has a kernel."""


def run(args: Sequence[str]) -> int:
    """Render as ``args`` say; returns 0."""
    options = tyro.cli(RenderOptions, prog="nerf-metal render", args=list(args))
    folder, checkpoint, method, device, split, views = open_run(
        "render", options.run, options.split, options.views, options.device, options.backend, options.checkpoint
    )

    import imageio.v3 as iio
    import torch
    from tqdm import tqdm

    from nerf_metal.background import background_color, evaluation_background
    from nerf_metal.cameras import image_rays
    from nerf_metal.checkpoint import write_atomically
    from nerf_metal.run_folder import to_uint8

    out = folder.path / "renders" / options.split
    out.mkdir(parents=True, exist_ok=True)
    background = evaluation_background(checkpoint.config.background)
    color = background_color(background, torch.zeros(1, 3)).to(device)
    done, seconds = 0, 0.0
    for index in tqdm(views, desc="views", disable=None):
        path = out / f"{split.names[index].rsplit('/', 1)[-1]}.png"
        if path.exists() and not options.overwrite:
            continue
        start = time.perf_counter()
        camera = split.camera(index)
        rays_o, rays_d = image_rays(split.c2w[index].to(device), camera)
        picture = to_uint8(method.render(rays_o, rays_d, color).rgb.view(camera.height, camera.width, 3))
        seconds, done = seconds + time.perf_counter() - start, done + 1
        write_atomically(path, functools.partial(iio.imwrite, image=picture, extension=".png"))
    speed = f", {seconds / done:.2f} s each" if done else ""
    print(f"{done} views rendered to {out}{speed}")
    return 0
