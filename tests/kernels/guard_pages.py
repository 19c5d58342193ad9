"""Run every kernel on buffers that end at a page nobody may touch: ``python -m tests.kernels.guard_pages [seed]``.

One element read or written past an end kills the process, so the tests run this in one of their own. It prints the
launches made.
"""

from __future__ import annotations

import ctypes
import mmap
import sys

import numpy as np

from nerf_metal.kernels import signature
from tests.kernels.launches import DTYPES, KERNELS, Described, grid_of, launch, needed, pack, small_params

_PAGE = mmap.PAGESIZE
_PAGES = 1024  # of the largest buffer: weight gradients of five chunks, layers 144 wide
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


class Fence:
    """Pages between two that cannot be touched."""

    def __init__(self) -> None:
        self._pages = mmap.mmap(-1, (_PAGES + 2) * _PAGE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._pages))
        for guard in (start, start + (_PAGES + 1) * _PAGE):
            if _libc.mprotect(guard, _PAGE, 0) != 0:
                raise OSError(ctypes.get_errno(), "mprotect")
        self._first, self._end = start + _PAGE, start + (_PAGES + 1) * _PAGE

    def place(self, values: np.ndarray, at_end: bool) -> int:
        """Copy values against the last or the first page; their address."""
        assert values.nbytes <= _PAGES * _PAGE
        address = self._end - values.nbytes if at_end else self._first
        ctypes.memmove(address, values.ctypes.data, values.nbytes)
        return address


def random_values(buffer: signature.Buffer, count: int, random: np.random.Generator) -> np.ndarray:
    """Sensible numbers or any bits at all; for packed_info counts in reach and out of it."""
    dtype = DTYPES[buffer.dtype]
    if random.random() < 0.3:
        size = np.dtype(dtype).itemsize
        return np.frombuffer(random.bytes(count * size), dtype).copy()
    if buffer.dtype in ("int", "uint"):
        return random.integers(-5, 80, count).astype(dtype)
    return random.uniform(0, 3, count).astype(dtype)


def main(seed: int) -> None:
    """Many launches of each kernel."""
    random = np.random.default_rng(seed)
    fences = [Fence() for _ in range(max(len(k.buffers) for k in KERNELS.values()))]
    codes = {name: code for code, name in enumerate(DTYPES)}
    ran = 0
    for name, kernel in KERNELS.items():
        for _ in range(25 if kernel.collective else 120):
            params = small_params(name, random)
            at_end = bool(random.random() < 0.8)
            described: list[Described] = []
            for fence, buffer, count in zip(fences, kernel.buffers, needed(name, params), strict=False):
                values = random_values(buffer, count, random)
                described.append((fence.place(values, at_end), count, codes[buffer.dtype]) if count else None)
            launch(name, described, pack(name, params), grid_of(name, params, random))
            ran += 1
    print(ran)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
