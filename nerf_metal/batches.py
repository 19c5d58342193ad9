"""Random batches of training rays: what a step sees depends on the seed and the step alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it

from nerf_metal import ops
from nerf_metal.background import background_color, composite_over
from nerf_metal.cameras import pixel_rays
from nerf_metal.data.scene import Split
from nerf_metal.samplers import Sampler

OVERSAMPLING = 4
"""Pixels drawn for each ray wanted. Rays that miss the box teach nothing; with a tight box about a third hit
it, so four are enough to fill the batch with hits."""
PRECROP = 0.5
"""Part of a picture's width and height, in its middle, that the first steps see: nerf-pytorch's ``precrop_frac``."""


def step_seed(seed: int, step: int, part: int = 0) -> int:
    """A 63-bit seed for a step of a run, or a part of its batch. Runs, and parts, lie far apart in the low 32 bits too,
    which are what the kernels take: no two steps or parts of a run share one.
    """
    return (seed * 0x9E3779B97F4A7C15 + part * 0xC2B2AE35 + step) & (2**63 - 1)


class RayBatch(NamedTuple):
    """Rays with their truth: ``rays_o, rays_d, truth, background``, each ``[R, 3]`` float32, and the pixels' ``alpha``
    ``[R, 1]``."""

    rays_o: torch.Tensor
    rays_d: torch.Tensor
    truth: torch.Tensor
    background: torch.Tensor
    alpha: torch.Tensor

    def split(self, rays: int) -> Iterator[RayBatch]:
        """Parts of at most ``rays`` rays, in order."""
        for parts in zip(*(tensor.split(rays) for tensor in self), strict=True):
            yield RayBatch(*parts)


def _with_truth(
    rays_o: torch.Tensor,
    rays_d: torch.Tensor,
    rgba: torch.Tensor,
    background: str,
    generator: torch.Generator,
    device: torch.device,
) -> RayBatch:
    """Rays and their pixels ``rgba [R, 4]`` over a background that may be drawn, on ``device``."""
    colors = background_color(background, rgba, generator).expand(len(rgba), 3)
    batch = (rays_o, rays_d, composite_over(rgba, colors), colors, rgba[..., 3:])
    return RayBatch(*(tensor.contiguous().to(device) for tensor in batch))


TILE = 16
"""Pixels along a tile's side: small beside an object, and few enough tiles that a list of them is short."""


class PixelBatches:
    """Draws rays through pixels of all images, on the CPU, and hands them to ``device``. How many changes from step to
    step.

    Args:
        split: the images; they stay on the CPU.
        background: name of the background, see :mod:`nerf_metal.background`.
        near_object: leave out pixels farther than a tile from any that is not transparent, for fields that know there
            to be nothing: their rays have no samples.
        device: where batches go.
    """

    def __init__(self, split: Split, background: str, *, near_object: bool, device: torch.device) -> None:
        """List the tiles to draw from."""
        self._split, self._background, self._device = split, background, device
        height, width = split.images.shape[1:3]
        if near_object and split.has_alpha:
            tiles = torch.stack([_tiles_near(image) for image in split.images])
        else:
            tiles = torch.ones((len(split.images), -(-height // TILE), -(-width // TILE)), dtype=torch.bool)
        self._tiles = tiles.nonzero()

    def draw(self, count: int, seed: int) -> RayBatch:
        """``count`` rays; the seed alone decides which."""
        split = self._split
        generator = torch.Generator().manual_seed(seed)
        height, width = split.images.shape[1:3]
        view, row, column = self._tiles[torch.randint(len(self._tiles), (count,), generator=generator)].unbind(-1)
        inside = torch.randint(TILE * TILE, (count,), generator=generator)
        # A tile that reaches over an edge counts its last pixels more than once.
        y = (row * TILE + inside // TILE).clamp(max=height - 1)
        x = (column * TILE + inside % TILE).clamp(max=width - 1)
        rays_o, rays_d = pixel_rays(split.c2w[view], split.intrinsics, torch.stack((x, y), dim=-1))
        rgba = split.pixels(view, y, x)
        return _with_truth(rays_o, rays_d, rgba, self._background, generator, self._device)


def _tiles_near(image: torch.Tensor) -> torch.Tensor:
    """Tiles of an RGBA image that have an opaque pixel in them or in a neighbour: bool ``[rows, columns]``."""
    opaque = (image[None, None, :, :, 3] > 0).float()
    opaque = F.max_pool2d(opaque, TILE, ceil_mode=True)
    return F.max_pool2d(opaque, 3, stride=1, padding=1)[0, 0] > 0


class RayBatches:
    """Draws batches over all pixels of all images, on the CPU, and hands them to ``device``.

    Args:
        split: the images; they stay on the CPU.
        aabb: the box ``[2, 3]`` that the rays should hit, on the CPU.
        sampler: gives near, far and the backend.
        rays: of a batch.
        background: name of the background, see :mod:`nerf_metal.background`.
        seed: of the run.
        device: where batches go.
        precrop_steps: first steps, which see only the middle of the pictures.
    """

    def __init__(
        self,
        split: Split,
        aabb: torch.Tensor,
        sampler: Sampler,
        *,
        rays: int,
        background: str,
        seed: int,
        device: torch.device,
        precrop_steps: int = 0,
    ) -> None:
        """Keep what to draw from; nothing is drawn yet."""
        self._precrop_steps = precrop_steps
        self._split, self._aabb, self._sampler = split, aabb, sampler
        self._rays, self._background, self._seed, self._device = rays, background, seed, device

    def draw(self, step: int) -> RayBatch:
        """The batch of ``step``: rays that hit the box before those that miss it."""
        generator = torch.Generator().manual_seed(step_seed(self._seed, step))
        views, height, width = self._split.images.shape[:3]
        candidates = OVERSAMPLING * self._rays
        left, top = 0, 0
        if step < self._precrop_steps:
            left, top = int(width * (1 - PRECROP) / 2), int(height * (1 - PRECROP) / 2)
            height, width = height - 2 * top, width - 2 * left
        pixel = torch.randint(views * height * width, (candidates,), generator=generator)
        view, y, x = pixel // (height * width), top + pixel // width % height, left + pixel % width
        rays_o, rays_d = pixel_rays(self._split.c2w[view], self._split.intrinsics, torch.stack((x, y), dim=-1))
        hits = ops.intersect_rays(
            rays_o, rays_d, self._aabb, near=self._sampler.near, far=self._sampler.far, backend="auto"
        ).hits
        keep = torch.cat((hits.nonzero()[:, 0], (~hits).nonzero()[:, 0]))[: self._rays]
        rgba = self._split.pixels(view[keep], y[keep], x[keep])
        return _with_truth(rays_o[keep], rays_d[keep], rgba, self._background, generator, self._device)
