"""What was found, as tables: of the compiler for the terminal, of a GPU for docs/cuda.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from proof.cuda.build import Usage
from proof.cuda.speed import Speed


@dataclass(frozen=True)
class Run:
    """All that one GPU said. ``cases``: for each kernel ``cases`` and ``worst``; ``hazards``: by a sanitizer's tool its
    lines about each kernel that it watched."""

    gpu: str
    usages: Sequence[Usage]
    cases: dict[str, dict[str, float]]
    hazards: dict[str, dict[str, int]]
    ceilings: tuple[float, float]
    speeds: dict[str, Speed]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns of equal width, the first to the left."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]


def compile_table(usages: Sequence[Usage]) -> list[str]:
    """What ptxas says of each kernel."""
    head = ["kernel", "registers", "stack", "spilled", "shared"]
    rows = [[u.kernel, *map(str, (u.registers, u.stack, u.spill_stores + u.spill_loads, u.shared))] for u in usages]
    return aligned([head, *rows])


def _hazards(run: Run, tool: str, kernel: str) -> str:
    lines = run.hazards.get(tool, {}).get(kernel)
    return "not run" if lines is None else "clean" if lines == 0 else f"{lines} lines"


def markdown(run: Run) -> str:
    """docs/cuda.md."""
    shared = {usage.kernel: usage.shared for usage in run.usages}
    out = [
        "# The shaders on an NVIDIA GPU",
        "",
        "Made by `python -m proof.cuda`. The shaders' text for Metal, compiled by nvcc, run by the metal backend's own",
        "launches: a second opinion on SIMD-groups, threadgroup memory and atomics, no backend.",
        "",
        f"{run.gpu}: a copy moves {run.ceilings[0] / 1e9:.0f} GB/s, multiply-adds make {run.ceilings[1] / 1e12:.1f}"
        " TFLOP/s.",
        "",
        "- max error: the worst error over tolerance of the named cases (`tests/ops`) in which the kernel ran. 1 is",
        "  the limit; 0 stands where cases assert equality, or limits of their own.",
        "- memcheck, racecheck, synccheck: what compute-sanitizer says of a part of the cases. racecheck sees shared",
        "  memory only, synccheck barriers.",
        "- of the ceiling: each buffer's bytes once, or the products' operations, over time; against the copy or the",
        "  multiply-adds.",
        "",
        "| kernel | cases | max error | memcheck | racecheck | synccheck | ns / sample | of the ceiling |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for kernel in sorted(run.cases):
        case, speed = run.cases[kernel], run.speeds.get(kernel)
        race = _hazards(run, "racecheck", kernel) if shared.get(kernel) else "no shared memory"
        row = [kernel, str(case["cases"]), f"{case['worst']:.2g}", _hazards(run, "memcheck", kernel), race]
        row.append(_hazards(run, "synccheck", kernel))
        if speed is None:
            row += ["not timed", ""]
        else:
            row += [f"{speed.nanoseconds_per_sample:.3g}", f"{speed.fraction:.0%} {speed.of}"]
        out.append(f"| {' | '.join(row)} |")
    return "\n".join(out) + "\n"
