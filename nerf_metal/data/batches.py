"""Random batches of training rays. A batch depends on the seed and the step only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it

from nerf_metal import ops
from nerf_metal.data.background import background_color, composite_over
from nerf_metal.data.cameras import Intrinsics, Lenses, pixel_rays
from nerf_metal.data.scene import Split

OVERSAMPLING = 4
"""Number of pixels drawn for each ray wanted. A ray that misses the box teaches nothing. With a tight box about a third
of the rays hit it, so four are enough to fill the batch with hits."""
PRECROP = 0.5
"""Part of the width and height, in the middle of an image, that the first steps see: ``precrop_frac`` of
nerf-pytorch."""


def step_seed(seed: int, step: int) -> int:
    """Return a seed of 63 bits for a step of a run.

    Seeds of different runs lie far apart in the low 32 bits too, which are what the kernels take: no two steps, and no
    two parts of a batch, share one.
    """
    return (seed * 0x9E3779B97F4A7C15 + step) & _SEED_BITS


def _part_seed(seed: int, part: int) -> int:
    """Return the seed of a part of a batch; the first part has that of the batch."""
    return (seed + part * 0xC2B2AE35) & _SEED_BITS


_SEED_BITS = 2**63 - 1  # what torch's generators take


class RayBatch(NamedTuple):
    """Rays with the colours that the images have there.

    Attributes:
        rays_o: origins ``[R, 3]`` float32, world units.
        rays_d: unit directions ``[R, 3]`` float32.
        truth: colours ``[R, 3]`` float32 of the pixels over ``background``.
        background: colours ``[R, 3]`` float32 behind the pixels.
        alpha: opacity ``[R, 1]`` float32 of the pixels.
        views: image of each ray, int64 ``[R]``.
        seed: for what else is drawn with the batch, such as the jitter of samples.
    """

    rays_o: torch.Tensor
    rays_d: torch.Tensor
    truth: torch.Tensor
    background: torch.Tensor
    alpha: torch.Tensor
    views: torch.Tensor
    seed: int

    def split(self, rays: int) -> Iterator[RayBatch]:
        """Yield parts of at most ``rays`` rays, in order, each with a seed of its own."""
        tensors: tuple[torch.Tensor, ...] = self[:-1]
        for part, columns in enumerate(zip(*(tensor.split(rays) for tensor in tensors), strict=True)):
            yield RayBatch._make((*columns, _part_seed(self.seed, part)))


class Batches(Protocol):
    """What the training loop draws its batches from."""

    def draw(self, step: int, rays: int) -> RayBatch:
        """Return the batch of ``step`` with at most ``rays`` rays. It depends on the seed and the step alone."""


def _with_truth(
    rays_o: torch.Tensor,
    rays_d: torch.Tensor,
    rgba: torch.Tensor,
    views: torch.Tensor,
    background: str,
    generator: torch.Generator,
    device: torch.device | str,
    seed: int,
) -> RayBatch:
    """Rays and their pixels ``rgba [R, 4]`` over a background that may be drawn, on ``device``."""
    colors = background_color(background, rgba, generator).expand(len(rgba), 3)
    batch = (rays_o, rays_d, composite_over(rgba, colors), colors, rgba[..., 3:], views)
    return RayBatch._make((*(tensor.contiguous().to(device) for tensor in batch), seed))


TILE = 16
"""Number of pixels along the side of a tile: small beside an object, and large enough for a short list of tiles."""


class PixelBatches:
    """Random rays through pixels of all images. The size of a batch may change from step to step. Rays are drawn on
    the CPU and moved to ``device``.

    Args:
        split: the images; they stay on the CPU.
        background: name of the background, see :mod:`nerf_metal.data.background`.
        near_object: leave out pixels that are more than a tile away from any opaque pixel. Use it for a field that
            knows empty space: rays through such pixels have no samples.
        seed: seed of the run.
        device: device of the batches.
    """

    def __init__(
        self,
        split: Split,
        background: str = "random",
        *,
        near_object: bool = False,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        """List the tiles to draw from."""
        self._split, self._background, self._seed, self._device = split, background, seed, device
        near_object = near_object and split.has_alpha
        tiles = []
        for index, (height, width) in enumerate(split.sizes.tolist()):
            if near_object:
                near = _tiles_near(split.image(index))
            else:
                near = torch.ones((-(-height // TILE), -(-width // TILE)), dtype=torch.bool)
            places = near.nonzero().to(torch.int32)  # half: photographs have millions of tiles
            tiles.append(torch.cat((torch.full_like(places[:, :1], index), places), -1))
        self._tiles = torch.cat(tiles)

    def draw(self, step: int, rays: int) -> RayBatch:
        """Return the batch of ``step``: ``rays`` rays, or fewer where masks leave some out."""
        split, count, seed = self._split, rays, step_seed(self._seed, step)
        generator = torch.Generator().manual_seed(seed)
        chosen = self._tiles[torch.randint(len(self._tiles), (count,), generator=generator)]
        view, row, column = chosen.long().unbind(-1)
        inside = torch.randint(TILE * TILE, (count,), generator=generator)
        # A tile that reaches over an edge counts its last pixels more than once.
        height, width = split.sizes[view].unbind(-1)
        y = torch.minimum(row * TILE + inside // TILE, height - 1)
        x = torch.minimum(column * TILE + inside % TILE, width - 1)
        masked = split.masked(view, y, x)
        if masked is not None and not bool(masked.all()):
            view, y, x = view[~masked], y[~masked], x[~masked]
        rays_o, rays_d = pixel_rays(split.c2w[view], _cameras(split, view), torch.stack((x, y), dim=-1))
        rgba = split.pixels(view, y, x)
        return _with_truth(rays_o, rays_d, rgba, view, self._background, generator, self._device, seed)


def _cameras(split: Split, view: torch.Tensor) -> Intrinsics | Lenses:
    """The cameras of images ``view [R]``."""
    return split.intrinsics if isinstance(split.intrinsics, Intrinsics) else split.lenses.at(view)


def _tiles_near(image: torch.Tensor) -> torch.Tensor:
    """Tiles of an RGBA image that have an opaque pixel in them or in a neighbour: bool ``[rows, columns]``."""
    opaque = (image[None, None, :, :, 3] > 0).float()
    opaque = F.max_pool2d(opaque, TILE, ceil_mode=True)
    return F.max_pool2d(opaque, 3, stride=1, padding=1)[0, 0] > 0


class RayBatches:
    """Random rays through pixels of all images. Rays that hit the box come first. Rays are drawn on the CPU and moved
    to ``device``.

    Args:
        split: the images; they stay on the CPU.
        aabb: the box ``[2, 3]`` that the rays should hit, on the CPU.
        near: least distance along a ray, world units.
        far: greatest distance, world units.
        background: name of the background, see :mod:`nerf_metal.data.background`.
        seed: seed of the run.
        device: device of the batches.
        precrop_steps: first steps, which see only the middle of the pictures.
    """

    def __init__(
        self,
        split: Split,
        aabb: torch.Tensor,
        *,
        near: float,
        far: float,
        background: str,
        seed: int,
        device: torch.device,
        precrop_steps: int = 0,
    ) -> None:
        """Keep what to draw from; nothing is drawn yet."""
        self._precrop_steps = precrop_steps
        self._split, self._aabb, self._near, self._far = split, aabb, near, far
        self._background, self._seed, self._device = background, seed, device

    def draw(self, step: int, rays: int) -> RayBatch:
        """Return the batch of ``step``: rays that hit the box before those that miss it."""
        seed = step_seed(self._seed, step)
        generator = torch.Generator().manual_seed(seed)
        split = self._split
        candidates = OVERSAMPLING * rays
        height, width = split.sizes.unbind(-1)
        left, top = torch.zeros_like(width), torch.zeros_like(height)
        if step < self._precrop_steps:
            left, top = ((side * (1 - PRECROP) / 2).long() for side in (width, height))
            height, width = height - 2 * top, width - 2 * left
        ends = (height * width).cumsum(0)
        pixel = torch.randint(int(ends[-1]), (candidates,), generator=generator)
        view = (pixel[:, None] >= ends).sum(-1)  # no searchsorted: MPS falls back for it
        pixel = pixel - (ends - height * width)[view]
        y, x = top[view] + pixel // width[view], left[view] + pixel % width[view]
        rays_o, rays_d = pixel_rays(split.c2w[view], _cameras(split, view), torch.stack((x, y), dim=-1))
        hits = ops.intersect_rays(rays_o, rays_d, self._aabb, near=self._near, far=self._far, backend="auto").hits
        keep = torch.cat((hits.nonzero()[:, 0], (~hits).nonzero()[:, 0]))
        masked = split.masked(view, y, x)
        if masked is not None and not bool(masked.all()):
            keep = keep[~masked[keep]]
        keep = keep[:rays]
        rgba = split.pixels(view[keep], y[keep], x[keep])
        return _with_truth(
            rays_o[keep], rays_d[keep], rgba, view[keep], self._background, generator, self._device, seed
        )
