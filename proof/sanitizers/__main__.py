"""``python -m proof.sanitizers [address] [undefined]``: exit code 0 where nothing was found, 1 where something was, 2
where nothing could be run."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from nerf_metal import kernels
from proof.sanitizers.build import FLAGS, Run, Tree, UnavailableError, copy_and_build, toolchain

# -s: what a process says before the sanitizer ends it is not pytest's to keep.
_PYTEST = ("-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", "-p", "no:faulthandler")
# What the sanitizers themselves upset: memory that is kept after it is freed, to catch its use, counts as growth; the
# emulators of other processors lack the room for AddressSanitizer's shadow; and these build what they run themselves.
# The self-test on the double takes a minute and a half for named cases that the instruction sets run too.
_LEFT_OUT = ("test_fiber.py", "test_host_isas.py", "test_doctor_metal.py")
_DESELECTED = ("test_metal_encoding.py::test_torchs_own_handles_are_freed",)
_FUZZ = ("tests/kernels/test_launch_fuzz.py", "tests/ops/test_op_fuzz.py")


@dataclass(frozen=True)
class Case:
    """A process: Python's arguments and variables of its environment."""

    name: str
    says: str
    arguments: tuple[str, ...]
    variables: dict[str, str] = field(default_factory=dict)


def usual_isas() -> list[str]:
    """The first and the best host instruction set of this processor."""
    usable = kernels.available_host_isas()
    return sorted({usable[0], usable[-1]}, key=usable.index)


def cases(isas: Sequence[str]) -> tuple[Case, ...]:
    """Every named case of every op in each instruction set, the SIMD-group kernels, the launcher and the metal backend;
    any arguments. The longest comes first: two run side by side, and all others fit beside it."""
    selected = [f"--ignore={path}" for path in (*(f"tests/kernels/{name}" for name in _LEFT_OUT), *_FUZZ)]
    selected += [f"--deselect=tests/kernels/{name}" for name in _DESELECTED]
    return (
        Case("kernels", "launcher, strict mode's refusals, metal backend", (*_PYTEST, "tests/kernels", *selected)),
        Case("strict", "SIMD-group kernels on fibers", (*_PYTEST, "tests/ops", "-k", "strict-simd-forward")),
        *(Case(isa, "every named case", ("-m", "tests.ops.isa_check"), {"NERF_METAL_HOST_ISA": isa}) for isa in isas),
        Case("fuzz", "any arguments of every launch and every op", (*_PYTEST, *_FUZZ)),
    )


# Of a report, whose stack goes on into Python for a hundred lines; and of what a process printed, its end.
_REPORT_LINES, _OUTPUT_LINES, _COLUMNS = 24, 40, 160


def main(arguments: Sequence[str] | None = None) -> int:
    """Build, run, print."""
    parser = argparse.ArgumentParser(prog="python -m proof.sanitizers", description=__doc__)
    parser.add_argument("sanitizers", nargs="*", metavar="SANITIZER", help=f"of {', '.join(FLAGS)}; both by default")
    parser.add_argument("--all-isas", action="store_true", help="not only the first and the best of this processor")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.sanitizers if name not in FLAGS]:
        print(f"[sanitizers] SANITIZER must be one of {', '.join(FLAGS)}, got {unknown[0]}", file=sys.stderr)
        return 2
    try:
        tools = toolchain(options.sanitizers or list(FLAGS))
    except UnavailableError as error:
        print(f"[sanitizers] {error}", file=sys.stderr)
        return 2
    isas = kernels.available_host_isas() if options.all_isas else usual_isas()
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        try:
            tree = copy_and_build(Path(folder), tools, isas)
        except RuntimeError as error:
            print(f"[sanitizers] nothing can be run: {error}".rstrip(), file=sys.stderr)
            return 2
        print(
            f"built {', '.join(isas)}, strict in {time.monotonic() - start:.0f} s: {' '.join(tools.flags)}",
            flush=True,
        )
        with ThreadPoolExecutor(2) as pool:  # each runs on a thread or two of its own
            codes = list(pool.map(lambda case: _report(case, run_case(tree, case)), cases(isas)))
    return max(codes)


def run_case(tree: Tree, case: Case) -> Run:
    """One case in the copy."""
    return tree.run(case.name, case.arguments, case.variables)


def _report(case: Case, run: Run) -> int:
    clean = run.code == 0 and not run.reports
    print(f"{'ok' if clean else 'FAILED':7}{case.name:10}{run.seconds:6.1f} s  {case.says}", flush=True)
    if not clean:
        summary = [line for line in run.reports.splitlines() if line.startswith("SUMMARY")]
        lines = [*run.output.splitlines()[-_OUTPUT_LINES:], *run.reports.splitlines()[:_REPORT_LINES], *summary]
        print("\n".join(line[:_COLUMNS] for line in lines), flush=True)
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())
