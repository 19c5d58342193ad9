"""Run the named cases of every op on a library of tools/cuda: ``python -m tools.cuda.cases DOUBLE LIBRARY``.

In a process of its own, which compute-sanitizer can watch. The last line is JSON: for each kernel the cases that it
took part in and the worst error over tolerance of these, and the cases that failed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch

from tests.ops.level_check import named_cases
from tools.cuda.provider import CUDA, on_cuda


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.cuda.cases", description=__doc__)
    parser.add_argument("double", type=Path, help="the double of Metal (tests/kernels/metal_double)")
    parser.add_argument("library", type=Path, help="libnerf_metal_cuda.so")
    parser.add_argument("--every", type=int, default=1, help="of every so many cases the first (default 1: all)")
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    found: dict[str, dict[str, float]] = {}
    failures = []
    with on_cuda(asked.double, asked.library) as executor:
        for name, run in list(named_cases(CUDA))[:: asked.every]:
            try:
                worst = max(run().values(), default=0.0)
            except (AssertionError, RuntimeError) as error:
                failures.append(f"{name}: {str(error).splitlines()[0]}")
                continue
            finally:
                ran = {launch["kernel"] for launch in executor.take_log()}
            for kernel in ran:
                entry = found.setdefault(kernel, {"cases": 0, "worst": 0.0})
                entry["cases"] += 1
                entry["worst"] = max(entry["worst"], worst)
    print(json.dumps({"kernels": found, "failures": failures}))
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
