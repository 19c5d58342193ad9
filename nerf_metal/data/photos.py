"""Photographs of any size as bytes, decoded when they are first needed."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from nerf_metal.data.images import read_header, read_image, reduced, turned
from nerf_metal.data.pixel_store import MemoryStore, ScratchStore, Store
from nerf_metal.util.errors import InputError

DECODE_THREADS = 2  # each thread holds a decoded photograph: 50 MB for 12 megapixels
_BAND = 256  # rows that are copied to the store at once, so that no photograph is held twice


class PhotoSource(NamedTuple):
    """A photograph as a capture names it.

    Attributes:
        path: the image file.
        size: width and height of its camera; None if unknown.
        mask: an image file that is black where pixels are left out of the training, or None. It has the size of the
            photograph, or the size after reduction.
    """

    path: Path
    size: tuple[int, int] | None = None
    mask: Path | None = None


class _Photo(NamedTuple):
    """A photograph whose header was read.

    Attributes:
        path: the image file.
        mask: its mask file, or None.
        size: width and height after the turn.
        orientation: EXIF orientation to apply, 1 to 8.
        stored: True if the EXIF orientation of the file is not followed.
        has_alpha: True if the file has alpha.
    """

    path: Path
    mask: Path | None
    size: tuple[int, int]
    orientation: int
    stored: bool
    has_alpha: bool


def photo_size(path: Path, declared: tuple[int, int] | None = None) -> tuple[int, int]:
    """Return the width and height of a photograph as it will be used.

    The EXIF orientation is followed, unless the declared size fits the stored pixels and not the turned ones.

    Args:
        path: the image file.
        declared: width and height of its camera; None if unknown.

    Raises:
        InputError: the file is missing, empty or not an image.
    """
    return _look(PhotoSource(path, declared)).size


def _look(source: PhotoSource) -> _Photo:
    """Read the header of a photograph and decide whether to turn it."""
    header = read_header(source.path)
    size, orientation = header.size, header.orientation
    if orientation >= 5:  # orientations 5 to 8 exchange rows and columns
        size = size[::-1]
    stored = size != header.size == source.size
    if stored:
        size, orientation = header.size, 1
    return _Photo(source.path, source.mask, size, orientation, stored, header.has_alpha)


def open_photos(sources: Iterable[PhotoSource], *, downscale: int, max_bytes: int) -> Photos:
    """Open photographs: check their headers, and decode none yet.

    Args:
        sources: the photographs.
        downscale: side of the boxes of pixels that are averaged, at least 1. Columns and rows that do not fill a box
            are cut off on the right and at the bottom (:meth:`nerf_metal.data.cameras.Intrinsics.reduced`).
        max_bytes: photographs that take more memory than this are kept in a scratch file.

    Raises:
        InputError: a file is missing, empty, not an image or not of the declared size; or `downscale` is larger than
            an image.
    """
    photos = []
    for source in sources:
        photo = _look(source)
        if source.size not in (None, photo.size):
            raise InputError(
                f"[photos] {source.path} must be {_by(source.size)} pixels like its camera, got {_by(photo.size)}; "
                "use the photographs that the poses were made from, or correct the size of the camera"
            )
        if min(photo.size) < downscale:
            raise InputError(
                f"[photos] --downscale must be at most {min(photo.size)} for {source.path} of {_by(photo.size)} "
                f"pixels, got {downscale}; use a smaller one"
            )
        if source.mask is not None:
            size, small = read_header(source.mask).size, tuple(side // downscale for side in photo.size)
            if size not in (photo.size, small):
                raise InputError(
                    f"[photos] the mask {source.mask} must be {_by(photo.size)} pixels like {source.path}, or "
                    f"{_by(small)} like the reduced photograph, got {_by(size)}; make the masks again"
                )
        photos.append(photo)
    return Photos(photos, downscale, max_bytes)


def _by(size: Sequence[int] | None) -> str:
    """Write a size as ``640x480``."""
    return "x".join(map(str, size or ()))


class Photos:
    """A sequence of ``N`` photographs, decoded when needed. :func:`open_photos` makes it.

    A pixel takes three bytes, or four if any photograph has alpha, and one more if there are masks. The first batch of
    pixels decodes all photographs. Indexing decodes one photograph. Nothing is decoded twice.

    Attributes:
        sizes: height and width of each photograph after reduction, int64 ``[N, 2]``.
        has_alpha: True if any photograph has alpha.
        on_disk: True if the pixels are kept in a scratch file.
        notes: sentences for the user about how EXIF orientations were treated.
    """

    def __init__(self, photos: Sequence[_Photo], downscale: int, max_bytes: int) -> None:
        """Lay out the store; nothing is decoded yet."""
        self._photos, self._downscale = photos, downscale
        sizes = [(photo.size[1] // downscale, photo.size[0] // downscale) for photo in photos]
        self.sizes = torch.tensor(sizes, dtype=torch.int64).view(-1, 2)
        self.has_alpha = any(photo.has_alpha for photo in photos)
        self.notes = [
            f"{count} of {len(photos)} photographs {what}"
            for count, what in (
                (sum(photo.orientation > 1 for photo in photos), "were turned by their EXIF orientation"),
                (
                    sum(photo.stored for photo in photos),
                    "have an EXIF orientation that was not followed: their cameras fit the stored pixels",
                ),
            )
            if count
        ]
        self._colors = 4 if self.has_alpha else 3
        self._masks = any(photo.mask for photo in photos)
        self._channels = self._colors + self._masks
        self._widths = self.sizes[:, 1].numpy()
        self._first = np.concatenate(([0], np.cumsum(self.sizes.prod(1).numpy())))
        self.on_disk = self._bytes > max_bytes
        self._store: Store | None = None
        self._kept = False  # True once any pixel is not masked
        self._missing = set(range(len(photos)))
        self._filling = threading.Lock()  # the viewer reads photographs from another thread

    @property
    def _bytes(self) -> int:
        """Bytes of all pixels."""
        return int(self._first[-1]) * self._channels

    @property
    def nbytes(self) -> int:
        """Memory in bytes that all decoded photographs take; 0 if they are kept in a scratch file."""
        return 0 if self.on_disk else self._bytes

    @property
    def file_bytes(self) -> int:
        """Size of the scratch file in bytes; 0 if there is none."""
        return self._bytes if self.on_disk else 0

    def __len__(self) -> int:
        """Return the number of photographs."""
        return len(self.sizes)

    def __getitem__(self, index: int) -> Tensor:
        """Return one photograph, uint8 ``[H, W, 4]``, RGB and straight alpha.

        Raises:
            InputError: the file is cut short, damaged or has changed, or the disk has no room for the scratch file.
        """
        index = range(len(self))[index]
        first, last = self._first[index : index + 2].tolist()
        rows = self._filled([index]).read(first, last)
        return self._rgba(rows).view(*self.sizes[index].tolist(), 4)

    def pixels(self, image_index: Tensor, y: Tensor, x: Tensor) -> Tensor:
        """Read a batch of pixels.

        Args:
            image_index: index of each pixel's photograph, int64 ``[...]``.
            y: row from the top, int64 ``[...]``.
            x: column from the left, int64 ``[...]``.

        Returns:
            RGB and straight alpha, uint8 ``[..., 4]``.

        Raises:
            InputError: a file is cut short, damaged or has changed, or the disk has no room for the scratch file.
        """
        return self._rgba(self._take(image_index, y, x)).view(*image_index.shape, 4)

    def masked(self, image_index: Tensor, y: Tensor, x: Tensor) -> Tensor | None:
        """Return which pixels of a batch the masks leave out, bool ``[...]``, or None if there are no masks.

        The arguments are those of :meth:`pixels`.
        """
        if not self._masks:
            return None
        return torch.from_numpy(self._take(image_index, y, x)[:, -1] == 0).view(image_index.shape)

    def _take(self, image_index: Tensor, y: Tensor, x: Tensor) -> NDArray[np.uint8]:
        """Return the stored rows of a batch of pixels, uint8 ``[n, channels]``."""
        views = image_index.numpy()  # numpy: torch would use several threads, which takes longer for so little work
        flat = self._first[views] + y.numpy() * self._widths[views] + x.numpy()
        return self._filled(range(len(self))).take(flat.reshape(-1))

    def _rgba(self, rows: NDArray[np.uint8]) -> Tensor:
        """Return RGB and straight alpha of stored rows, uint8 ``[n, 4]``."""
        if self.has_alpha:
            return torch.from_numpy(rows[:, :4])
        rgba = np.full((len(rows), 4), 255, np.uint8)
        rgba[:, :3] = rows[:, :3]
        return torch.from_numpy(rgba)

    def _filled(self, wanted: Iterable[int]) -> Store:
        """Return the store after decoding these photographs into it, if they are not there yet."""
        if self._store is not None and not self._missing:
            return self._store
        with self._filling:
            if self._store is None:
                kind = ScratchStore if self.on_disk else MemoryStore
                self._store = kind(int(self._first[-1]), self._channels)
            todo = [index for index in wanted if index in self._missing]
            with ThreadPoolExecutor(DECODE_THREADS) as pool:
                for index in pool.map(self._decode, todo):
                    self._missing.remove(index)
            if self._masks and not self._missing and not self._kept:
                raise InputError(
                    f"[photos] masks of {self._photos[0].mask} and others must keep some pixels, got none that is not "
                    "black; make the pixels to train on white"
                )
            return self._store

    def _decode(self, index: int) -> int:
        """Decode one photograph into the store, and return its index."""
        assert self._store is not None
        photo, (height, width) = self._photos[index], self.sizes[index].tolist()
        image = reduced(turned(read_image(photo.path), photo.orientation), self._downscale)
        if image.size != (width, height):
            raise InputError(
                f"[photos] {photo.path} must not change while it is in use, got {_by(image.size)} pixels where there "
                f"were {width}x{height}; start again"
            )
        keep = self._keep(photo, height, width) if self._masks else None
        self._kept = self._kept or keep is None or bool(keep.any())
        for top in range(0, height, _BAND):
            band = image.crop((0, top, width, min(top + _BAND, height)))
            rows = np.asarray(band.convert("RGBA") if self.has_alpha else band).reshape(-1, self._colors)
            if keep is not None:
                rows = np.concatenate((rows, keep[top : top + _BAND].reshape(-1, 1)), axis=-1)
            self._store.write(int(self._first[index]) + top * width, rows)
        return index

    def _keep(self, photo: _Photo, height: int, width: int) -> NDArray[np.uint8]:
        """Return uint8 ``[height, width]``: 0 where any pixel of the box is black in the mask, else 255."""
        if photo.mask is None:
            return np.full((height, width), 255, np.uint8)
        mask: Image.Image = read_image(photo.mask)
        keep = np.asarray(mask.convert("RGBA"))
        keep = np.minimum(keep[..., :3].max(-1), keep[..., 3])  # transparent counts as black
        if keep.shape != (height, width):
            factor = self._downscale
            boxes = keep[: height * factor, : width * factor].reshape(height, factor, width, factor)
            keep = boxes.min(axis=(1, 3))
        return keep
