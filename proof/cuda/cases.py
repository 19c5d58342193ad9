"""Run the named cases of every op on a library of proof/cuda: ``python -m proof.cuda.cases LIBRARY``.

In a process of its own, which compute-sanitizer can watch. The double of Metal lies beside the library, or is built
there. The last line is JSON: for each kernel the cases that it took part in and the worst error over tolerance of
these, and the cases that failed.
"""

from __future__ import annotations

import argparse
import json
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from nerf_metal.selftest.modes import METAL, METAL_PLAIN, Mode
from nerf_metal.selftest.table import OPS, Op
from proof.cuda.provider import on_cuda
from tests.kernels.libraries import build_doubles


def named_cases() -> Iterator[tuple[str, Op, Any, Mode]]:
    """Every case of every op, of SIMD-group kernels and of their plain twins, with a name."""
    for op in OPS:
        for mode in (METAL, METAL_PLAIN) if op.twins else (METAL,):
            for case in op.cases:
                yield " ".join(filter(None, (op.name, op.what, case.name, f"({mode.name})"))), op, case, mode


def double_beside(library: Path) -> Path:
    """The double of Metal in the library's folder."""
    double = library.parent / "libmetal_public.so"
    return double if double.exists() else build_doubles(library.parent)["public"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0, or 1 where a case failed."""
    parser = argparse.ArgumentParser(prog="python -m proof.cuda.cases", description=__doc__)
    parser.add_argument("library", type=Path, help="libnerf_metal_cuda.so")
    parser.add_argument("--every", type=int, default=1, help="of every so many cases the first (default 1: all)")
    asked = parser.parse_args(arguments)
    library = asked.library.resolve()
    torch.set_num_threads(1)
    found: dict[str, dict[str, float]] = {}
    failures = []
    with on_cuda(double_beside(library), library) as executor:
        for name, op, case, mode in list(named_cases())[:: asked.every]:
            try:
                worst = max(op.compare(case, op.run(case, mode)).values(), default=0.0)
            except (AssertionError, RuntimeError) as error:
                # outside of pytest an assertion without words has none
                at = traceback.extract_tb(error.__traceback__)[-1]
                failures.append(f"{name}: {str(error).partition(chr(10))[0] or at.line}")
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
