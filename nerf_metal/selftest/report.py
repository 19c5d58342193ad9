"""The report of a self-test: a JSON file to attach to an issue, and lines for the terminal."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

import nerf_metal
from nerf_metal import kernels
from nerf_metal.selftest.versions import PACKAGES, package_version, private_arguments
from nerf_metal.util.atomic import write_json
from nerf_metal.util.errors import InputError
from nerf_metal.util.machine import machine
from nerf_metal.util.text import wrap

KIND, FORMAT = "nerf_metal doctor report", 2
WIDTH = 80  # columns of a plain terminal
SHOWN = 3  # problems of a group on the terminal; the report has all of them
Result = Literal["ok", "failed", "known", "skipped"]
"""``known``: torch computes a wrong result for something that nerf_metal avoids."""


@dataclass(frozen=True)
class KernelRow:
    """The result for one kernel.

    Attributes:
        kernel: the kernel's name.
        library: the name of its shader library.
        compiled: whether Metal compiled it. None on the host, where the build compiled it.
        ran: whether a check launched it.
        result: ``ok`` or ``failed``.
        message: what is wrong; empty if nothing is.
    """

    kernel: str
    library: str
    compiled: bool | None
    ran: bool
    result: Result
    message: str = ""


@dataclass(frozen=True)
class CheckRow:
    """The result of one comparison with the reference.

    Attributes:
        group: the line on the terminal that counts it.
        case: the name of the case.
        mode: how the kernels ran and where the inputs lay.
        result: the outcome.
        ratio: the worst error divided by its tolerance. None if it is not finite.
        seconds: the duration.
        message: what is wrong; empty if nothing is.
        issues: the numbers of pytorch issues that reported a wrong result.
        avoided: what nerf_metal does instead; empty if it relies on this.
    """

    group: str
    case: str
    mode: str
    result: Result
    ratio: float | None = None
    seconds: float = 0.0
    message: str = ""
    issues: tuple[int, ...] = ()
    avoided: str = ""

    @property
    def title(self) -> str:
        """Group, case and mode, without empty and repeated parts."""
        return ", ".join(dict.fromkeys(part for part in (self.group, self.case, self.mode) if part))


@dataclass
class DoctorReport:
    """The results of a self-test, written to ``path`` after each group.

    A driver that ends the process thus leaves all earlier results in the file.

    Attributes:
        path: the JSON file.
        backend: the tested backend.
        kernels: the results of the kernels.
        checks: the results of the comparisons.
        warnings: the texts of the warnings.
        running: the present check. None after the last one.
        seconds: the duration of the self-test.
        machine: the properties of the machine.
    """

    path: Path
    backend: str
    kernels: list[KernelRow] = field(default_factory=list)
    checks: list[CheckRow] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    running: str | None = None
    seconds: float = 0.0
    machine: dict[str, Any] = field(default_factory=machine)  # read once, since every save writes it

    @property
    def rows(self) -> list[KernelRow | CheckRow]:
        """All results."""
        return [*self.kernels, *self.checks]

    @property
    def failed(self) -> int:
        """The number of failures."""
        return sum(row.result == "failed" for row in self.rows)

    def save(self) -> None:
        """Write the JSON file completely or not at all."""
        said = {
            "kind": KIND,
            "format": FORMAT,
            "complete": self.running is None,
            "running": self.running,
            "result": "failed" if self.failed else "passed" if self.running is None else None,
            "machine": self.machine,
            "software": software(self.backend),
            "totals": {r: sum(row.result == r for row in self.rows) for r in ("ok", "failed", "known", "skipped")},
            "seconds": round(self.seconds, 3),
            "warnings": self.warnings,
            "kernels": [asdict(row) for row in self.kernels],
            "checks": [asdict(row) for row in self.checks],
        }
        write_json(self.path, said)


def finite(ratio: float) -> float | None:
    """Round a ratio to four digits. Return None if it is not finite, since JSON has no such number."""
    return float(f"{ratio:.4g}") if math.isfinite(ratio) else None


def impersonal(text: str) -> str:
    """Replace the home folder by ``~`` in a text: its name is usually a person's."""
    home = str(Path.home())
    return text if len(home) < 2 else text.replace(home, "~")


def check_report_path(path: Path) -> None:
    """Check before the long self-test that its report can be written.

    Raises:
        InputError: the folder is missing or cannot be written, or ``path`` is a file that is no report.
    """
    where = "[doctor] --report must be"
    if not path.parent.is_dir():
        raise InputError(f"{where} in an existing folder, got {path}; make the folder or leave the option out")
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"{where} in a folder that can be written, got {path}; choose another folder")
    if not path.exists():
        return
    try:
        known = json.loads(path.read_text(encoding="utf-8"))["kind"] == KIND
    except (OSError, ValueError, TypeError, KeyError):
        known = False
    if not known:
        raise InputError(f"{where} a new file or an older report, got {path}, which is neither; choose another name")


def software(backend: str) -> dict[str, Any]:
    """Versions, what to say of torch on a Mac, the host kernels' instruction set, and the variables that change
    what torch and the kernels do."""
    known = ("NERF_METAL_", "PYTORCH_", "OMP_", "MTL_")
    return {
        "nerf_metal": nerf_metal.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "packages": {name: package_version(name) for name in PACKAGES},
        "backend": backend,
        "metal_arguments": private_arguments(torch.__version__),
        "host_isa": kernels.host_isa(),
        "host_isas": kernels.available_host_isas(),
        "environment": {k: impersonal(v) for k, v in sorted(os.environ.items()) if k.startswith(known)},
    }


HEADER = f"  {'check':<30}{'passed':>14}{'worst error / tolerance':>25}{'s':>8}"


def line_of(rows: Sequence[KernelRow | CheckRow]) -> str:
    """Return the end of a group's line: the passed checks, the worst ratio and the seconds."""
    counted = [row for row in rows if row.result != "skipped"]
    passed = f"{sum(row.result == 'ok' for row in counted)} of {len(counted)}"
    ratios = [row.ratio for row in rows if isinstance(row, CheckRow) and row.ratio is not None]
    seconds = sum(row.seconds for row in rows if isinstance(row, CheckRow))
    return f"{passed:>14}{f'{max(ratios):.3g}' if ratios else '':>25}{seconds:>8.1f}"


def problem_lines(kernel_rows: Sequence[KernelRow], checks: Sequence[CheckRow]) -> Iterator[str]:
    """Yield the failed, known and skipped rows as lines of :data:`WIDTH` columns."""
    for result, mark in (("failed", "FAILED"), ("known", "known "), ("skipped", "skipped")):
        groups: dict[str, list[str]] = {}
        for kernel in kernel_rows:
            if kernel.result == result:
                groups.setdefault(f"kernels of {kernel.library}", []).append(f"{kernel.kernel}: {kernel.message}")
        for row in checks:
            if row.result == result:
                groups.setdefault(row.group, []).append(_text(row))
        for group, texts in groups.items():
            for text in texts[:SHOWN]:
                yield from _wrapped(f"  {mark} {text}")
            if len(texts) > SHOWN:
                yield f"         The report has {len(texts) - SHOWN} more of {group}."


def _text(row: CheckRow) -> str:
    issues = ", ".join(f"#{number}" for number in row.issues)
    message = row.message
    for name in (row.case, row.case.rpartition(", ")[2]):  # the title contains it
        message = message.removeprefix(name).lstrip(" :")
    text = f"{row.title}: {message}"
    if issues:
        text += f" (see pytorch {issues})"
    return f"{text}; nerf_metal avoids this: {row.avoided}" if row.avoided else text


def _wrapped(text: str) -> list[str]:
    lines = text.splitlines()[:6]  # of a compiler's text; the report has it all
    return [part for line in lines for part in wrap(line, rest=" " * 9)]
