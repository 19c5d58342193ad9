"""Launch kernels of a library in a process of their own each: ``python -m proof.sanitizers.broken LIBRARY KERNEL...``.

Inside a copy that is built with sanitizers. A kernel is ``host:NAME`` or ``strict:NAME``. The last line is JSON: for
each the process, by whose number a report can be found, its exit code and its words.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path

import torch

from nerf_metal import _C
from tests.kernels.libraries import load_modules

COUNT = 32  # a SIMD-group
REFUSED = "broken_divergence_f32"  # by strict mode, which leaves the lanes' frames where they stand


def launch(mode: str, kernel: str) -> None:
    """On tensors of just the size, as an op does it."""
    if kernel.startswith("mutant"):
        buffers, params, grid = [torch.ones(32), torch.ones(1), torch.zeros(1, dtype=torch.int32)], {"n_words": 1}, 1
    else:
        buffers, params, grid = [torch.ones(COUNT), torch.zeros(COUNT)], {"n": COUNT}, COUNT
    if mode == "after":  # a launch that strict mode refuses
        with contextlib.suppress(RuntimeError):
            launch("strict", REFUSED)
    if mode in ("strict", "after"):
        _C.launch_strict(kernel, buffers, params, (grid, 1, 1), (COUNT, 1, 1), "forward", 0)
    else:
        _C.launch_host(kernel, buffers, params, (grid, 1, 1), (COUNT, 1, 1), 1)


def main(library: str, kernels: list[str]) -> None:
    """Fork for each: importing torch takes seconds."""
    load_modules(Path(library))
    found = {}
    for kernel in kernels:
        reader, writer = os.pipe()
        process = os.fork()
        if process == 0:
            os.dup2(writer, 2)
            launch(*kernel.split(":"))
            os._exit(0)
        os.close(writer)
        with open(reader, errors="replace") as said:
            text = said.read()
        found[kernel] = (process, os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), text)
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
