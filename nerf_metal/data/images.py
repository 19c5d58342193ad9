"""Decoding of image files into straight-alpha bytes, and exact reduction by whole factors."""

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngImageFile

from nerf_metal.util.errors import InputError

# Exceptions of Pillow for files that are not images, are cut short or are damaged.
_DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
_TURNS = {  # EXIF 2.32, tag Orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Header(NamedTuple):
    """The header of an image file.

    Attributes:
        size: width and height of the stored pixels.
        orientation: EXIF orientation, 1 to 8, by which the stored pixels must be turned; 1 leaves them as they are.
        has_alpha: True if the file has an alpha channel or a transparent colour.
    """

    size: tuple[int, int]
    orientation: int
    has_alpha: bool


def read_header(path: Path) -> Header:
    """Read the header of an image file without decoding its pixels.

    Raises:
        InputError: the file is missing, empty or not an image.
    """
    with _refusals("read_header", path), Image.open(path) as image:
        # Pillow would decode a PNG to reach an EXIF chunk behind the pixels.
        known = not isinstance(image, PngImageFile) or "exif" in image.info
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1) if known else 1
        return Header(image.size, orientation if orientation in _TURNS else 1, image.has_transparency_data)


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """Turn an image by its EXIF orientation, 1 to 8."""
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def read_rgba(path: Path) -> tuple[NDArray[np.uint8], bool]:
    """Decode one image to four channels; see :func:`read_image`.

    Args:
        path: an image file.

    Returns:
        RGB and straight alpha, uint8 ``[H, W, 4]`` (alpha is 255 if the file has none), and True if the file has alpha.

    Raises:
        InputError: the file is missing, empty, not an image, or cut short.
    """
    image = read_image(path)
    has_alpha = image.mode == "RGBA"
    return np.asarray(image if has_alpha else image.convert("RGBA")), has_alpha


def read_image(path: Path) -> Image.Image:
    """Decode one image: RGBA with straight alpha if the file has alpha, else RGB.

    Grey becomes RGB. 16-bit samples become 8-bit samples by rounding ``v / 257``. The EXIF orientation is ignored,
    because only the caller knows whether the poses belong to the stored pixels.

    Args:
        path: a PNG, a JPEG or any other file that Pillow reads.

    Raises:
        InputError: the file is missing, empty, not an image, or cut short.
    """
    with _refusals("read_image", path), Image.open(path) as image:
        wide = _sixteen_bits(image, path)
        if wide is None:
            image.load()  # raises here if the file is cut short
            mode = "RGBA" if image.has_transparency_data else "RGB"
            return image if image.mode == mode else image.convert(mode)
    eight = ((wide + 128) // 257).astype(np.uint8)  # v / 257 rounded to nearest; 65535 / 255 is 257
    if wide.shape[2] < 3:
        eight = np.concatenate((eight[..., :1],) * 3 + (eight[..., 1:],), axis=-1)
    return Image.fromarray(eight)


@contextmanager
def _refusals(where: str, path: Path) -> Iterator[None]:
    """Turn the exceptions for a bad image file into one InputError."""
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"[{where}] {path} must exist, got no such file; check file_path or copy the image") from None
    except _DECODE_ERRORS as error:
        size = path.stat().st_size if path.is_file() else 0
        phone = path.suffix.lower() in (".heic", ".heif")
        cure = "export it as JPEG" if phone else "copy or export the image again"
        raise InputError(
            f"[{where}] {path} must be a complete image, got {size} bytes that do not decode ({error}); {cure}"
        ) from None


def _sixteen_bits(image: Image.Image, path: Path) -> NDArray[np.uint32] | None:
    """Return the samples of a 16-bit image, uint32 ``[H, W, 1 to 4]``, or None for any other image.

    Pillow has no 16-bit colour images: it keeps the high byte of each sample. The low bytes come from a second decoding
    that declares the samples little-endian, so that Pillow keeps the other byte.
    """
    if image.mode in ("I;16", "I;16B") or (image.mode == "I" and image.format == "PNG"):
        return np.asarray(image).astype(np.uint32)[..., None]
    layout = str(image.tile[0].args) if isinstance(image, PngImageFile) and image.tile else ""
    if layout not in ("RGB;16B", "RGBA;16B", "LA;16B"):
        return None
    with PngImageFile(path) as again:
        # Grey with alpha has no little-endian layout. Its four bytes per pixel fit into four 8-bit channels.
        other = "RGBA" if layout == "LA;16B" else layout.replace("16B", "16L")
        again.tile = [tile._replace(args=other) for tile in again.tile]
        bytes_again = np.asarray(again).astype(np.uint32)
    if layout == "LA;16B":
        return bytes_again[..., 0::2] * 256 + bytes_again[..., 1::2]
    return np.asarray(image).astype(np.uint32) * 256 + bytes_again


def reduced(image: Image.Image, factor: int) -> Image.Image:
    """Average boxes of `factor` x `factor` pixels of an RGB or RGBA image, with alpha as in :func:`box_downscale`.

    Columns and rows that do not fill a box are cut off on the right and at the bottom. The draft modes of JPEG decoders
    would be faster, but they are other filters.

    Args:
        image: an RGB or RGBA image.
        factor: side of a box in pixels, at least 1.

    Returns:
        The reduced image, of the same mode.
    """
    width, height = image.width // factor, image.height // factor
    box = (0, 0, width * factor, height * factor)
    if image.mode == "RGB":
        return image.reduce(factor, box) if factor > 1 else image
    # A few rows at a time, because the integers take 16 times as much memory as the pixels.
    rows = [
        box_downscale(np.asarray(image.crop((0, top, box[2], min(top + 64 * factor, box[3])))), factor)
        for top in range(0, box[3], 64 * factor)
    ]
    return Image.fromarray(np.concatenate(rows))


def box_downscale(rgba: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Average boxes of `factor` x `factor` pixels, exactly, in integers.

    The weight of each pixel's colour is its alpha, so that the noise that files keep under transparent pixels does not
    bleed into edges. A box without any opacity becomes black and transparent.

    Args:
        rgba: uint8 ``[H, W, 4]``, straight alpha; H and W multiples of `factor`.
        factor: side of a box in pixels, at least 1.

    Returns:
        uint8 ``[H / factor, W / factor, 4]``, straight alpha, rounded to nearest (halves up).
    """
    if factor == 1:
        return rgba
    height, width = rgba.shape[0] // factor, rgba.shape[1] // factor
    boxes = rgba.reshape(height, factor, width, factor, 4).astype(np.int64)
    alpha = boxes[..., 3:]
    weighted = (boxes[..., :3] * alpha).sum(axis=(1, 3))
    total = alpha.sum(axis=(1, 3))
    divisor = np.maximum(total, 1)
    count = factor * factor
    colour = (2 * weighted + divisor) // (2 * divisor)
    return np.concatenate([colour * (total > 0), (2 * total + count) // (2 * count)], axis=-1).astype(np.uint8)
