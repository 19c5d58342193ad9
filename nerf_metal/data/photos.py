"""Photographs of any sizes as bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from nerf_metal.data.images import box_downscale, read_rgba
from nerf_metal.errors import InputError


class Photos:
    """Photographs, one after the other, three bytes a pixel.

    Attributes:
        sizes: int64 ``[N, 2]``, height and width.
    """

    def __init__(self, images: Sequence[Tensor]) -> None:
        """Keep images uint8 ``[H, W, 3]``."""
        self.sizes = torch.tensor([image.shape[:2] for image in images])
        self._first = torch.cat((torch.zeros(1, dtype=torch.int64), self.sizes.prod(1).cumsum(0)))
        self._data = torch.cat([image.reshape(-1, 3) for image in images])
        self.has_alpha = False
        self.notes: list[str] = []

    @property
    def nbytes(self) -> int:
        """Memory that they take."""
        return self._data.nbytes

    def __len__(self) -> int:
        """How many."""
        return len(self.sizes)

    def __getitem__(self, index: int) -> Tensor:
        """One of them, uint8 ``[H, W, 4]``."""
        height, width = self.sizes[index].tolist()
        rgb = self._data[self._first[index] : self._first[index + 1]].view(height, width, 3)
        return torch.cat((rgb, torch.full_like(rgb[..., :1], 255)), -1)

    def pixels(self, image_index: Tensor, y: Tensor, x: Tensor) -> Tensor:
        """A batch of pixels, uint8 ``[..., 4]``."""
        rgb = self._data[self._first[image_index] + y * self.sizes[image_index, 1] + x]
        return torch.cat((rgb, torch.full_like(rgb[..., :1], 255)), -1)

    def masked(self, image_index: Tensor, y: Tensor, x: Tensor) -> Tensor | None:
        """Which of a batch of pixels are to be left out, bool ``[...]``; None where there are no masks."""
        return None


class PhotoSource(NamedTuple):
    """A file, its declared width and height, and its mask."""

    path: Path
    size: tuple[int, int] | None
    mask: Path | None


def photo_size(path: Path) -> tuple[int, int]:
    """Width and height."""
    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, SyntaxError) as error:
        raise InputError(f"[load_scene] {path} must be an image, got {error}; copy it again") from None


def open_photos(sources: Sequence[PhotoSource], *, downscale: int, max_bytes: int) -> Photos:
    """Decode all of them."""
    images, has_alpha = [], False
    for path, size, mask in sources:
        if mask is not None and not mask.is_file():
            raise InputError(f"[load_scene] {mask} must exist, got no such file; copy the mask")
        if size is not None and photo_size(path) != size:
            raise InputError(f"[load_scene] {path} must have the size {size}, got {photo_size(path)}; copy it again")
        rgba, alpha = read_rgba(path)
        height, width = (length // downscale * downscale for length in rgba.shape[:2])
        images.append(torch.from_numpy(box_downscale(rgba[:height, :width], downscale)[..., :3].copy()))
        has_alpha |= alpha
    photos = Photos(images)
    photos.has_alpha = has_alpha
    return photos
