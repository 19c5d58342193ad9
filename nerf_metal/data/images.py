"""Image files as straight-alpha bytes, and exact reduction by whole factors."""

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

# What Pillow raises for files that are not images, are cut short or are damaged inside.
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
    """What an image file says of itself before its pixels.

    Attributes:
        size: width and height as stored.
        orientation: EXIF's, 1 to 8: how to turn the stored pixels; 1 is not at all.
        has_alpha: whether it has an alpha channel or a transparent colour.
    """

    size: tuple[int, int]
    orientation: int
    has_alpha: bool


def read_header(path: Path) -> Header:
    """Read the header of an image file; nothing is decoded.

    Raises:
        InputError: the file is missing, empty or not an image.
    """
    with _refusals("read_header", path), Image.open(path) as image:
        # A PNG that has its EXIF behind its pixels would be decoded for it.
        known = not isinstance(image, PngImageFile) or "exif" in image.info
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1) if known else 1
        return Header(image.size, orientation if orientation in _TURNS else 1, image.has_transparency_data)


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """An image as EXIF's orientation wants it seen."""
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def read_rgba(path: Path) -> tuple[NDArray[np.uint8], bool]:
    """Decode one image with an alpha channel, as :func:`read_image` otherwise.

    Returns:
        uint8 ``[H, W, 4]`` RGB and straight alpha (255 where the file has none), and whether the file has
        alpha.

    Raises:
        InputError: the file is missing, empty, not an image, or cut short.
    """
    image = read_image(path)
    has_alpha = image.mode == "RGBA"
    return np.asarray(image if has_alpha else image.convert("RGBA")), has_alpha


def read_image(path: Path) -> Image.Image:
    """Decode one image: RGBA with straight alpha where the file has alpha, else RGB.

    Grey becomes RGB; 16-bit samples become 8-bit by rounding ``v / 257``; EXIF orientation is ignored,
    because whether poses belong to the stored pixels is for the caller to know.

    Args:
        path: a PNG, JPEG or any other file that Pillow reads.

    Raises:
        InputError: the file is missing, empty, not an image, or cut short.
    """
    with _refusals("read_image", path), Image.open(path) as image:
        wide = _sixteen_bits(image, path)
        if wide is None:
            image.load()  # here, where a file that is cut short is refused
            mode = "RGBA" if image.has_transparency_data else "RGB"
            return image if image.mode == mode else image.convert(mode)
    eight = ((wide + 128) // 257).astype(np.uint8)  # v / 257 rounded to the nearest: 65535 / 255 is 257
    if wide.shape[2] < 3:
        eight = np.concatenate((eight[..., :1],) * 3 + (eight[..., 1:],), axis=-1)
    return Image.fromarray(eight)


@contextmanager
def _refusals(where: str, path: Path) -> Iterator[None]:
    """Turn what a bad image file raises into one line."""
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
    """The samples ``[H, W, 1 to 4]`` of a 16-bit image, or None for any other.

    Pillow has no 16-bit colour: it keeps each sample's high byte. The low bytes come from a second decoding
    in which the samples are declared little-endian, so that the byte it keeps is the other one.
    """
    if image.mode in ("I;16", "I;16B") or (image.mode == "I" and image.format == "PNG"):
        return np.asarray(image).astype(np.uint32)[..., None]
    layout = str(image.tile[0].args) if isinstance(image, PngImageFile) and image.tile else ""
    if layout not in ("RGB;16B", "RGBA;16B", "LA;16B"):
        return None
    with PngImageFile(path) as again:
        # Grey with alpha has no little-endian layout; its four bytes a pixel fit four 8-bit channels.
        other = "RGBA" if layout == "LA;16B" else layout.replace("16B", "16L")
        again.tile = [tile._replace(args=other) for tile in again.tile]
        bytes_again = np.asarray(again).astype(np.uint32)
    if layout == "LA;16B":
        return bytes_again[..., 0::2] * 256 + bytes_again[..., 1::2]
    return np.asarray(image).astype(np.uint32) * 256 + bytes_again


def reduced(image: Image.Image, factor: int) -> Image.Image:
    """Average boxes of `factor` x `factor` pixels of an RGB or RGBA image, alpha as :func:`box_downscale` has it.

    Columns and rows that fill no box are cut off on the right and at the bottom. Draft modes of JPEG decoders, which
    would be quicker, are other filters.
    """
    width, height = image.width // factor, image.height // factor
    box = (0, 0, width * factor, height * factor)
    if image.mode == "RGB":
        return image.reduce(factor, box) if factor > 1 else image
    # A few rows at a time: its integers are 16 times as large as the pixels.
    rows = [
        box_downscale(np.asarray(image.crop((0, top, box[2], min(top + 64 * factor, box[3])))), factor)
        for top in range(0, box[3], 64 * factor)
    ]
    return Image.fromarray(np.concatenate(rows))


def box_downscale(rgba: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Average boxes of `factor` x `factor` pixels, exactly, in integers.

    The average is over premultiplied colour, divided by the summed alpha again: pixels weigh in by how opaque
    they are, so the noise that files keep under transparent pixels does not bleed into edges. A box without
    any opacity is black and transparent.

    Args:
        rgba: uint8 ``[H, W, 4]``, straight alpha; H and W multiples of `factor`.
        factor: at least 1.

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
