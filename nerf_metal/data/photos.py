"""Photographs of any sizes as bytes, decoded when they are first asked for."""

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

DECODE_THREADS = 2  # each holds a decoded photograph, 50 MB for 12 MP
_BAND = 256  # rows that are copied at once on their way to the store: a photograph is not held twice


class PhotoSource(NamedTuple):
    """A photograph as a pose file names it.

    Attributes:
        path: the image file.
        size: width and height that its camera was made for; None where nothing says.
        mask: image file that is black where the photograph is to be left out of the training, of the photograph's
            size or of the reduced one.
    """

    path: Path
    size: tuple[int, int] | None = None
    mask: Path | None = None


class _Photo(NamedTuple):
    """A photograph whose header was read: its size (width, height) once turned, and how it is turned."""

    path: Path
    mask: Path | None
    size: tuple[int, int]
    orientation: int
    stored: bool  # its EXIF orientation is not followed
    has_alpha: bool


def photo_size(path: Path, declared: tuple[int, int] | None = None) -> tuple[int, int]:
    """Width and height of a photograph as it will be used.

    EXIF orientation is followed, except where ``declared``, the size that the camera was made for, is the stored
    pixels' and not the turned ones'.

    Raises:
        InputError: the file is missing, empty or not an image.
    """
    return _look(PhotoSource(path, declared)).size


def _look(source: PhotoSource) -> _Photo:
    """Read a header."""
    header = read_header(source.path)
    size, orientation = header.size, header.orientation
    if orientation >= 5:  # these exchange rows and columns
        size = size[::-1]
    stored = size != header.size == source.size
    if stored:
        size, orientation = header.size, 1
    return _Photo(source.path, source.mask, size, orientation, stored, header.has_alpha)


def open_photos(sources: Iterable[PhotoSource], *, downscale: int, max_bytes: int) -> Photos:
    """Check the headers of photographs; none is decoded yet.

    Args:
        sources: which.
        downscale: boxes of so many pixels along each side are averaged; what fills no box is cut off on the right and
            at the bottom, as :meth:`nerf_metal.data.cameras.Intrinsics.reduced` has it.
        max_bytes: photographs that take more are kept in a scratch file.

    Raises:
        InputError: a file is missing, empty, no image or of another size than declared, or `downscale` leaves
            nothing of it.
    """
    photos = []
    for source in sources:
        photo = _look(source)
        if source.size not in (None, photo.size):
            raise InputError(
                f"[photos] {source.path} must be {_by(source.size)} pixels as its camera is, got {_by(photo.size)}; "
                "use the photographs that the poses were made from, or mend the camera's size"
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
                    f"[photos] the mask {source.mask} must be {_by(photo.size)} pixels as {source.path} is, or "
                    f"{_by(small)} as it is used, got {_by(size)}; make the masks again"
                )
        photos.append(photo)
    return Photos(photos, downscale, max_bytes)


def _by(size: Sequence[int] | None) -> str:
    return "x".join(map(str, size or ()))


class Photos:
    """Photographs one after the other, three bytes a pixel, or four where any has alpha; one more where there are
    masks. Made by :func:`open_photos`.

    The first batch of pixels decodes all of them; one photograph asked for alone is decoded alone, once.

    Attributes:
        sizes: int64 ``[N, 2]``, height and width.
        has_alpha: whether any of them has.
        on_disk: whether they are kept in a scratch file.
        notes: sentences about what was done.
    """

    def __init__(self, photos: Sequence[_Photo], downscale: int, max_bytes: int) -> None:
        """Lay them out."""
        self._photos, self._downscale = photos, downscale
        sizes = [(photo.size[1] // downscale, photo.size[0] // downscale) for photo in photos]
        self.sizes = torch.tensor(sizes, dtype=torch.int64).view(-1, 2)
        self.has_alpha = any(photo.has_alpha for photo in photos)
        self.notes = [
            f"{count} of {len(photos)} photographs {what}"
            for count, what in (
                (sum(photo.orientation > 1 for photo in photos), "were turned as their EXIF orientation says"),
                (
                    sum(photo.stored for photo in photos),
                    "have an EXIF orientation that was left alone: their cameras are made for the pixels as stored",
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
        self._kept = False  # whether any pixel is not masked
        self._missing = set(range(len(photos)))
        self._filling = threading.Lock()  # a page that shows the training asks too

    @property
    def _bytes(self) -> int:
        return int(self._first[-1]) * self._channels

    @property
    def nbytes(self) -> int:
        """Memory that they take once all of them were decoded; on disk they take none."""
        return 0 if self.on_disk else self._bytes

    @property
    def file_bytes(self) -> int:
        """Of the scratch file."""
        return self._bytes if self.on_disk else 0

    def __len__(self) -> int:
        """How many."""
        return len(self.sizes)

    def __getitem__(self, index: int) -> Tensor:
        """One of them, uint8 ``[H, W, 4]``.

        Raises:
            InputError: its file is cut short or damaged, or the scratch file has no room.
        """
        index = range(len(self))[index]
        first, last = self._first[index : index + 2].tolist()
        rows = self._filled([index]).read(first, last)
        return self._rgba(rows).view(*self.sizes[index].tolist(), 4)

    def pixels(self, image_index: Tensor, y: Tensor, x: Tensor) -> Tensor:
        """A batch of pixels, uint8 ``[..., 4]``.

        Raises:
            InputError: as for one; the message names the file.
        """
        return self._rgba(self._take(image_index, y, x)).view(*image_index.shape, 4)

    def masked(self, image_index: Tensor, y: Tensor, x: Tensor) -> Tensor | None:
        """Which of a batch of pixels are to be left out, bool ``[...]``; None where there are no masks."""
        if not self._masks:
            return None
        return torch.from_numpy(self._take(image_index, y, x)[:, -1] == 0).view(image_index.shape)

    def _take(self, image_index: Tensor, y: Tensor, x: Tensor) -> NDArray[np.uint8]:
        views = image_index.numpy()  # numpy: torch shares even this work among threads, which takes longer
        flat = self._first[views] + y.numpy() * self._widths[views] + x.numpy()
        return self._filled(range(len(self))).take(flat.reshape(-1))

    def _rgba(self, rows: NDArray[np.uint8]) -> Tensor:
        if self.has_alpha:
            return torch.from_numpy(rows[:, :4])
        rgba = np.full((len(rows), 4), 255, np.uint8)
        rgba[:, :3] = rows[:, :3]
        return torch.from_numpy(rgba)

    def _filled(self, wanted: Iterable[int]) -> Store:
        """The store with at least these photographs in it."""
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
                    "black; what is to be learnt is white in a mask"
                )
            return self._store

    def _decode(self, index: int) -> int:
        """Write one photograph into the store."""
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
        """0 where any pixel of the box is black in the mask, else 255: ``[height, width]``."""
        if photo.mask is None:
            return np.full((height, width), 255, np.uint8)
        mask: Image.Image = read_image(photo.mask)
        keep = np.asarray(mask.convert("RGBA"))
        keep = np.minimum(keep[..., :3].max(-1), keep[..., 3])  # transparent is black
        if keep.shape != (height, width):
            factor = self._downscale
            boxes = keep[: height * factor, : width * factor].reshape(height, factor, width, factor)
            keep = boxes.min(axis=(1, 3))
        return keep
