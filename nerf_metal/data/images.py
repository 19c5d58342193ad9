"""Image files as straight-alpha bytes, and exact reduction by whole factors."""

import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from nerf_metal.errors import InputError

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


def read_rgba(path: Path) -> tuple[NDArray[np.uint8], bool]:
    """Decode one image.

    Grey becomes RGB; 16-bit samples become 8-bit by rounding ``v / 257``; EXIF orientation is ignored,
    because poses belong to the stored pixels.

    Args:
        path: a PNG, JPEG or any other file that Pillow reads.

    Returns:
        uint8 ``[H, W, 4]`` RGB and straight alpha (255 where the file has none), and whether the file has
        alpha.

    Raises:
        InputError: the file is missing, empty, not an image, or cut short.
    """
    try:
        with Image.open(path) as image:
            wide = _sixteen_bits(image, path)
            if wide is None:
                return np.asarray(image.convert("RGBA")), image.has_transparency_data
    except FileNotFoundError:
        raise InputError(
            f"[read_rgba] {path} must exist, got no such file; check file_path or copy the image"
        ) from None
    except _DECODE_ERRORS as error:
        size = path.stat().st_size if path.is_file() else 0
        raise InputError(
            f"[read_rgba] {path} must be a complete image, got {size} bytes that do not decode ({error}); "
            "copy or export the image again"
        ) from None
    rgba = np.full((*wide.shape[:2], 4), 255, dtype=np.uint8)
    eight = (wide + 128) // 257  # v / 257 rounded to the nearest: 65535 / 255 is 257
    colours = 3 if wide.shape[2] > 2 else 1
    rgba[..., :3] = eight[..., :colours]
    if wide.shape[2] > colours:
        rgba[..., 3] = eight[..., colours]
    return rgba, wide.shape[2] > colours


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
