"""``nerf-metal render``: write a run's pictures of a split's views."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from nerf_metal.config import Backend
from nerf_metal.errors import InputError


@dataclass(frozen=True)
class RenderOptions:
    """Render views with a run's last checkpoint; writes RUN/renders/SPLIT/NAME.png. Files that are there already
    are kept, so that a render that was interrupted goes on."""

    run: Annotated[str, tyro.conf.Positional]
    """Run folder, as nerf-metal train made it."""
    split: Literal["train", "val", "test"] = "test"
    """Whose cameras."""
    views: int | None = None
    """Views of the split, evenly spaced. None: all."""
    overwrite: bool = False
    """Render again what is there already."""
    device: Literal["auto", "cpu", "mps", "cuda"] = "auto"
    """Where to render. auto: mps, else cuda, else cpu."""
    backend: Backend = "auto"
    """Who computes what has a kernel."""


def run(args: Sequence[str]) -> int:
    """Render as ``args`` say; returns 0."""
    options = tyro.cli(RenderOptions, prog="nerf-metal render", args=list(args))
    if options.views is not None and options.views < 1:
        raise InputError(f"[render] --views must be at least 1, got {options.views}; leave it out for all")

    # From here on torch is needed: help and bad options came first.
    import imageio.v3 as iio
    import torch
    from tqdm import tqdm

    from nerf_metal.background import background_color, evaluation_background
    from nerf_metal.cameras import image_rays
    from nerf_metal.checkpoint import write_atomically
    from nerf_metal.data.scene import spread
    from nerf_metal.devices import check_backend, pick_device
    from nerf_metal.methods import load_method
    from nerf_metal.run_folder import RunFolder, to_uint8
    from nerf_metal.scenes import open_scene

    device = pick_device(options.device)
    check_backend(options.backend, device)
    folder, _ = RunFolder.open(options.run, "render")
    method, checkpoint = load_method(folder, options.backend)
    config = checkpoint.config
    split = open_scene(config, splits=(options.split,)).splits[options.split]
    method.to(device)
    method.reserve(split.images.numel())
    out = folder.path / "renders" / options.split
    out.mkdir(parents=True, exist_ok=True)
    camera = split.intrinsics
    color = background_color(evaluation_background(config.background), torch.zeros(1, 3)).to(device)
    done, seconds = 0, 0.0
    for index in tqdm(spread(len(split.names), options.views or len(split.names)), desc="views", disable=None):
        path = out / f"{split.names[index].rsplit('/', 1)[-1]}.png"
        if path.exists() and not options.overwrite:
            continue
        start = time.perf_counter()
        rays_o, rays_d = image_rays(split.c2w[index].to(device), camera)
        picture = to_uint8(method.render(rays_o, rays_d, color).view(camera.height, camera.width, 3))
        seconds, done = seconds + time.perf_counter() - start, done + 1
        write_atomically(path, functools.partial(iio.imwrite, image=picture, extension=".png"))
    speed = f", {seconds / done:.2f} s each" if done else ""
    print(f"{done} views of {camera.width} x {camera.height} rendered to {out}{speed}")
    return 0
