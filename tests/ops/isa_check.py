"""Compare the kernels of one instruction set with the reference: ``python -m tests.ops.isa_check``.

It is chosen once for a process, by ``NERF_METAL_HOST_ISA``; the tests run this in one process for each. The
last line is JSON: the one in use and the worst error over tolerance.
"""

from __future__ import annotations

import json

import torch

from nerf_metal import kernels
from nerf_metal.selftest.modes import HOST
from nerf_metal.selftest.table import OPS


def main() -> None:
    """Run every named case."""
    torch.set_num_threads(1)
    ratios = [op.compare(case, op.run(case, HOST)) for op in OPS for case in op.cases]
    worst = max(value for case in ratios for value in case.values())
    print(json.dumps({"isa": kernels.host_isa(), "cases": len(ratios), "worst": worst}))


if __name__ == "__main__":
    main()
