"""Counter-based uniform random numbers in pure torch: the specification of ``metal/random.h``.

The generator is ``pcg3d`` of Jarzynski and Olano, "Hash functions for GPU rendering" (JCGT 9(3), 2020, listing 16). It
maps three 32-bit words to three well mixed words and has no state. A number therefore depends only on its index and the
seed, and is the same on every device, in any order of evaluation and for any split of the rays.
"""

from __future__ import annotations

import torch

_MASK = 0xFFFFFFFF  # not every device has wrapping uint32 arithmetic in torch: use int64 and a mask
STREAM_MARCH = 0x6D617263  # "marc"; the streams keep ops with one seed apart
STREAM_IMPORTANCE = 0x696D706F  # "impo"
STREAM_TRAVERSE = 0x74726176  # "trav"
STREAM_OCCUPANCY = 0x6F636375  # "occu"
STREAM_CELL = 0x63656C6C  # "cell"


def _pcg3d(x: torch.Tensor, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """Return the first output word of pcg3d for int64 tensors that hold 32-bit words."""
    x, y, z = ((v * 1664525 + 1013904223) & _MASK for v in (x, y, z))
    x = (x + y * z) & _MASK
    y = (y + z * x) & _MASK
    z = (z + x * y) & _MASK
    x, y, z = (v ^ (v >> 16) for v in (x, y, z))
    return (x + y * z) & _MASK


def words(rows: int, columns: int, seed: int, stream: int, device: torch.device) -> torch.Tensor:
    """Return random 32-bit words: entry ``(i, j)`` is the first word of ``pcg3d(i, j, seed ^ stream)``.

    Args:
        rows: number of values of the first counter, usually rays.
        columns: number of values of the second counter, usually samples.
        seed: any int; its low 32 bits count.
        stream: constant that separates ops with the same seed.
        device: device of the result.

    Returns:
        int64 ``[rows, columns]``, from 0 to 2^32 - 1.
    """
    i = torch.arange(rows, device=device, dtype=torch.int64)[:, None]
    j = torch.arange(columns, device=device, dtype=torch.int64)[None, :]
    z = torch.full((1, 1), (seed ^ stream) & _MASK, device=device, dtype=torch.int64)
    return _pcg3d(*torch.broadcast_tensors(i, j, z))


def uniform(rows: int, columns: int, seed: int, stream: int, device: torch.device) -> torch.Tensor:
    """Return uniform random numbers in [0, 1): the top 24 bits of :func:`words`, divided by 2^24.

    Every value is exact in float32. The arguments are those of :func:`words`.

    Returns:
        float64 ``[rows, columns]``, or float32 on MPS, which has no float64.
    """
    dtype = torch.float32 if device.type == "mps" else torch.float64
    return (words(rows, columns, seed, stream, device) >> 8).to(dtype) * 2.0**-24
