"""The self-test from top to bottom: compile the shaders, run every case in every mode, and probe torch's own ops."""

from __future__ import annotations

import functools
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from nerf_metal import kernels
from nerf_metal.kernels import shaders
from nerf_metal.selftest.modes import HOST, METAL, METAL_PLAIN, STRICT_SIMD, Mode
from nerf_metal.selftest.probes import RELIED_ON, Probe
from nerf_metal.selftest.probes_avoided import AVOIDED
from nerf_metal.selftest.report import (
    HEADER,
    CheckRow,
    DoctorReport,
    KernelRow,
    finite,
    impersonal,
    line_of,
    problem_lines,
)
from nerf_metal.selftest.table import OPS, Op
from nerf_metal.selftest.tolerances import MismatchError

_OFFSET = 3  # elements: half tensors then start at byte 6, which is aligned for a half and for nothing larger


def variations(backend: str) -> tuple[Mode, ...]:
    """Return the modes in which a backend is tested.

    These are the backend's usual kernels, the other form of kernels with two forms (SIMD-group and plain), inputs with
    storage offsets, and inputs that torch is still computing when the kernels are launched.
    """
    first, twins = (HOST, STRICT_SIMD) if backend == "host" else (METAL, METAL_PLAIN)
    offset = Mode(f"{backend}, storage offsets", backend, offset=_OFFSET)
    queued = Mode(f"{backend}, behind torch's work", backend, queued=True)
    return first, twins, offset, queued


def run_self_test(backend: str, path: Path, say: Callable[[str], None], *, no_metal: str | None = None) -> DoctorReport:
    """Run the whole self-test, and save the report after each group.

    Args:
        backend: ``"metal"`` or ``"host"``. It must be usable.
        path: the report's JSON file.
        say: takes text for the terminal, with its line breaks.
        no_metal: why a machine that should have Metal cannot use it. It counts as a failure.
    """
    test = _SelfTest(DoctorReport(path, backend), say)
    if no_metal is not None:
        test.report.checks.append(CheckRow("metal", "usable", "", "failed", message=no_metal))
    started = time.perf_counter()
    say(HEADER + "\n")
    broken = test.compile()
    with kernels.record_launches() as launched:
        for name in dict.fromkeys(op.name for op in OPS):
            test.group(name, test.op(name, broken.get(name)))
    test.kernels_ran(launched, broken)
    report = test.report
    test.conclude(report.kernels, report.checks)
    # Torch's own ops come last: some of their faults end the process, and all other results are printed by then.
    before = len(report.checks)
    test.group("torch, relied on", (test.probe("torch, relied on", probe) for probe in RELIED_ON))
    test.group("torch, avoided", (test.probe("torch, avoided", probe) for probe in AVOIDED))
    report.running, report.seconds = None, time.perf_counter() - started
    report.save()
    say(f"  {'total':<30}{line_of(report.rows)[:-8]}{report.seconds:>8.1f}\n")
    test.conclude([], report.checks[before:])
    return report


class _SelfTest:
    """A running self-test and its report."""

    def __init__(self, report: DoctorReport, say: Callable[[str], None]) -> None:
        self.report, self.say = report, say
        self.device = kernels.device_of(report.backend)
        self.libraries = shaders.embedded_kernels()

    def group(self, name: str, rows: Iterator[CheckRow]) -> None:
        """Run a group and print its line: the name before it runs, and the result after it."""
        self.report.running = name
        self.report.save()
        self.say(f"  {name:<30}")
        found = []
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            for row in rows:
                found.append(row)
                self.report.checks.append(row)
        for warning in warned:
            text = impersonal(str(warning.message))
            if text not in self.report.warnings:
                self.report.warnings.append(text)
        self.say(line_of(found) + "\n")

    def compile(self) -> dict[str, str]:
        """Compile all shader libraries. Return the compiler's message for each library that it refuses."""
        broken: dict[str, str] = {}
        if self.report.backend == "metal":
            libraries = sorted(set(self.libraries.values()))
            self.report.running = "compiling"
            self.report.save()
            self.say(f"  {'shader libraries compiled':<30}")
            for library in libraries:
                try:
                    kernels.compile_library(library)
                except Exception as error:
                    broken[library] = impersonal(str(error))
            self.say(f"{f'{len(libraries) - len(broken)} of {len(libraries)}':>14}\n")
        return broken

    def kernels_ran(self, launched: kernels.LaunchRecord, broken: dict[str, str]) -> None:
        """Add a row for each kernel: it must have been compiled and launched."""
        for kernel, library in sorted(self.libraries.items()):
            compiled = None if self.report.backend == "host" else library not in broken
            error = broken.get(library) or impersonal(launched.failed.get(kernel, ""))
            ran = kernel in launched.ran
            message = error or ("" if ran else "no check launched it")
            self.report.kernels.append(
                KernelRow(kernel, library, compiled, ran, "failed" if message else "ok", message)
            )
        self.say(f"  {'kernels run':<30}{line_of(self.report.kernels)[:14]}\n")

    def op(self, name: str, broken: str | None) -> Iterator[CheckRow]:
        """Yield the results of every case of an op, in every mode."""
        if broken is not None:
            yield CheckRow(name, "", self.report.backend, "skipped", message="its shader library does not compile")
            return
        for op in OPS:
            if op.name != name:
                continue
            for mode in variations(self.report.backend):
                if mode.simd is not None and not op.twins:
                    continue
                for case in op.cases:
                    title = f"{op.what}, {case.name}" if op.what else case.name
                    yield _checked(name, title, mode.name, functools.partial(_run, op, case, mode))

    def conclude(self, kernel_rows: Sequence[KernelRow], checks: Sequence[CheckRow]) -> None:
        """Print the problems."""
        for line in problem_lines(kernel_rows, checks):
            self.say(line + "\n")

    def probe(self, group: str, probe: Probe) -> CheckRow:
        """Run a probe of one of torch's own ops."""
        self.report.running = f"{group}: {probe.name}"  # a probe may end the process: the report then names it
        self.report.save()
        row = _checked(group, probe.name, "", lambda: probe.compare(self.device, self.report.backend))
        result = "known" if row.result == "failed" and probe.avoided else row.result
        return CheckRow(group, probe.name, "", result, row.ratio, row.seconds, row.message, probe.issues, probe.avoided)


def _checked(group: str, case: str, mode: str, compare: Callable[[], dict[str, float]]) -> CheckRow:
    started = time.perf_counter()
    try:
        ratio, message = max(compare().values(), default=0.0), ""
    except MismatchError as error:
        ratio, message = error.ratio, impersonal(str(error))
    except Exception as error:  # a driver or a compiler may raise anything: the other checks go on
        ratio, message = float("inf"), impersonal(f"{type(error).__name__}: {error}")
    seconds = round(time.perf_counter() - started, 4)
    return CheckRow(group, case, mode, "failed" if message else "ok", finite(ratio), seconds, message)


def _run(op: Op, case: Any, mode: Mode) -> dict[str, float]:
    """Return errors divided by tolerances. With queued inputs, run twice before any result is read."""
    runs = [op.run(case, mode) for _ in range(1 + mode.queued)]
    worst: dict[str, float] = {}
    for run in [{name: None if x is None else _read(x) for name, x in run.items()} for run in runs]:
        for name, ratio in op.compare(case, run).items():
            worst[name] = max(worst.get(name, 0.0), ratio)
    return worst


def _read(x: torch.Tensor) -> torch.Tensor:
    """Return a copy on the CPU, made from the tensor's whole storage.

    MPS may copy a half tensor at an odd offset wrongly (pytorch #182839). That is no fault of a kernel, and a probe
    tests it.
    """
    stored = x.as_strided((x.untyped_storage().nbytes() // x.element_size(),), (1,), 0).cpu()
    return stored.as_strided(x.shape, x.stride(), x.storage_offset())
