"""Counter-based uniform numbers, the reference of ``metal/random.h``.

``pcg3d`` of Jarzynski and Olano, "Hash Functions for GPU Rendering" (JCGT 9(3), 2020, listing 16): three
32-bit words in, three well mixed words out. It has no state, so a number depends on its index and the seed
alone and is the same on every device, in any order of evaluation and in any split of the rays.
"""

from __future__ import annotations

import torch

_MASK = 0xFFFFFFFF  # torch has no wrapping uint32 arithmetic on every device: int64 and a mask
STREAM_MARCH = 0x6D617263  # "marc": keeps the users of one seed apart
STREAM_IMPORTANCE = 0x696D706F  # "impo"
STREAM_TRAVERSE = 0x74726176  # "trav"
STREAM_OCCUPANCY = 0x6F636375  # "occu"
STREAM_CELL = 0x63656C6C  # "cell"


def _pcg3d(x: torch.Tensor, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """First output word of pcg3d for int64 tensors holding 32-bit words."""
    x, y, z = ((v * 1664525 + 1013904223) & _MASK for v in (x, y, z))
    x = (x + y * z) & _MASK
    y = (y + z * x) & _MASK
    z = (z + x * y) & _MASK
    x, y, z = (v ^ (v >> 16) for v in (x, y, z))
    return (x + y * z) & _MASK


def words(rows: int, columns: int, seed: int, stream: int, device: torch.device) -> torch.Tensor:
    """32 random bits each, int64 ``[rows, columns]``: entry ``(i, j)`` is ``pcg3d(i, j, seed ^ stream)``.

    Args:
        rows: first counter, the ray.
        columns: second counter, the sample.
        seed: any int; its low 32 bits count.
        stream: a constant that separates users of one seed.
        device: where the numbers are made.
    """
    i = torch.arange(rows, device=device, dtype=torch.int64)[:, None]
    j = torch.arange(columns, device=device, dtype=torch.int64)[None, :]
    z = torch.full((1, 1), (seed ^ stream) & _MASK, device=device, dtype=torch.int64)
    return _pcg3d(*torch.broadcast_tensors(i, j, z))


def uniform(rows: int, columns: int, seed: int, stream: int, device: torch.device) -> torch.Tensor:
    """Uniform numbers in [0, 1) with 24 bits, float64 ``[rows, columns]`` (float32 on MPS, which has no float64).

    The top 24 bits of :func:`words` over 2^24, so every value is exact in float32.
    """
    dtype = torch.float32 if device.type == "mps" else torch.float64
    return (words(rows, columns, seed, stream, device) >> 8).to(dtype) * 2.0**-24
