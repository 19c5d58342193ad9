"""Photographs of any sizes as bytes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


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
