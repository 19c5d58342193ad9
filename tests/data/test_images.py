"""Decoding image files, and reducing them."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from nerf_metal.data.images import box_downscale, read_rgba
from nerf_metal.util.errors import InputError


def _png16(samples: NDArray[np.uint16]) -> bytes:
    """A PNG of 16-bit samples [H, W, C], which Pillow cannot write (PNG specification, W3C 2003)."""
    height, width, channels = samples.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_downscale_by_hand() -> None:
    def px(*rgba: int) -> list[int]:
        return list(rgba)

    clear = px(255, 9, 77, 0)  # noise under transparency: must not bleed
    image = np.array(
        [
            [px(10, 20, 30, 255), px(20, 40, 60, 255), px(200, 0, 100, 255), clear],
            [px(30, 60, 90, 255), px(41, 80, 120, 255), clear, clear],
            [clear, clear, px(100, 100, 100, 51), px(0, 0, 0, 204)],
            [clear, clear, clear, px(1, 2, 3, 1)],
        ],
        dtype=np.uint8,
    )
    # Top left: plain means 101/4 = 25.25, 50, 75. Top right: alpha 255/4 = 63.75. Bottom right: alpha is
    # 256/4 = 64, red is (100 * 51 + 0 * 204 + 1 * 1) / 256 = 19.9, green 5102 / 256 = 19.9, blue 19.9.
    expected = [[[25, 50, 75, 255], [200, 0, 100, 64]], [[0, 0, 0, 0], [20, 20, 20, 64]]]
    assert box_downscale(image, 2).tolist() == expected
    assert box_downscale(image, 1).tolist() == image.tolist()


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_sixteen_bits_are_rounded(tmp_path: Path, channels: int) -> None:
    samples = np.random.default_rng(channels).integers(0, 65536, (5, 7, channels)).astype(np.uint16)
    samples[0, 0], samples[0, 1], samples[0, 2] = 255, 128, 129  # cut off: 0, 0, 0; rounded: 1, 0, 1
    (tmp_path / "a.png").write_bytes(_png16(samples))
    rgba, has_alpha = read_rgba(tmp_path / "a.png")
    expected = np.rint(samples.astype(np.float64) * 255 / 65535).astype(int)
    assert rgba[0, :3, 0].tolist() == [1, 0, 1]
    assert has_alpha == (channels in (2, 4))
    colours = 1 if channels < 3 else 3
    assert (rgba[..., :3] == expected[..., :colours]).all()
    assert (rgba[..., 3] == (expected[..., -1] if has_alpha else 255)).all()


@pytest.mark.parametrize("depth", [8, 16])
def test_an_image_cut_anywhere_is_refused_or_whole(
    tmp_path: Path, depth: int, noise: Callable[[int, int, int, int], NDArray[np.uint8]]
) -> None:
    file = tmp_path / "a.png"
    if depth == 8:
        Image.fromarray(noise(4, 6, 4, 0)).save(file)
    else:
        file.write_bytes(_png16(noise(4, 6, 4, 0).astype(np.uint16) * 257))
    whole, original = read_rgba(file)[0], file.read_bytes()
    refused = 0
    for length in range(len(original)):
        file.write_bytes(original[:length])
        try:
            rgba, _ = read_rgba(file)
        except InputError as error:
            refused += 1
            assert f"got {length} bytes that do not decode" in str(error)
        else:
            assert rgba.tolist() == whole.tolist()
    assert refused == len(original) - 20  # two checksums and the closing chunk come after the pixels
