"""What a self-test found: rows for a report to attach to an issue, and lines for a person."""

from __future__ import annotations

import json
import math
import os
import platform
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

import nerf_metal
from nerf_metal import kernels
from nerf_metal.selftest.versions import PACKAGES, package_version, private_arguments
from nerf_metal.util.atomic import write_atomically
from nerf_metal.util.errors import InputError
from nerf_metal.util.machine import machine

KIND, FORMAT = "nerf_metal doctor report", 2
WIDTH = 80  # columns of a plain terminal
SHOWN = 3  # findings of a kind on the terminal; the report has all
Result = Literal["ok", "failed", "known", "skipped"]
"""``known``: torch is wrong where nerf_metal does without."""


@dataclass(frozen=True)
class KernelRow:
    """One kernel of the shaders.

    Attributes:
        compiled: by Metal; None on the host, where the build did it.
        ran: whether a check launched it.
    """

    kernel: str
    library: str
    compiled: bool | None
    ran: bool
    result: Result
    message: str = ""


@dataclass(frozen=True)
class CheckRow:
    """One comparison.

    Attributes:
        group: its line on the terminal.
        mode: how kernels were run and inputs placed.
        ratio: the worst error over its tolerance; None where there is no finite one.
        issues: of pytorch, where this was wrong.
        avoided: what nerf_metal does instead.
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
        """Group, case and mode, as far as they say something."""
        return ", ".join(dict.fromkeys(part for part in (self.group, self.case, self.mode) if part))


@dataclass
class Report:
    """What is found, written to ``path`` as it comes: a driver that ends the process leaves what came before.

    Attributes:
        running: what is being checked, None when all is done.
    """

    path: Path
    backend: str
    kernels: list[KernelRow] = field(default_factory=list)
    checks: list[CheckRow] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    running: str | None = None
    seconds: float = 0.0
    machine: dict[str, Any] = field(default_factory=machine)  # asked once: it is saved with every group

    @property
    def rows(self) -> list[KernelRow | CheckRow]:
        """All of them."""
        return [*self.kernels, *self.checks]

    @property
    def failed(self) -> int:
        """How many failed."""
        return sum(row.result == "failed" for row in self.rows)

    def save(self) -> None:
        """Write the JSON whole or not at all."""
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
        text = json.dumps(said, indent=1, allow_nan=False) + "\n"
        write_atomically(self.path, lambda to: to.write_text(text, encoding="utf-8"))


def finite(ratio: float) -> float | None:
    """A number that JSON has, in digits that mean something."""
    return float(f"{ratio:.4g}") if math.isfinite(ratio) else None


def impersonal(text: str) -> str:
    """Without the name of the home folder, which is mostly a person's."""
    home = str(Path.home())
    return text if len(home) < 2 else text.replace(home, "~")


def check_report_path(path: Path) -> None:
    """Check that a report can be written before minutes are spent on it.

    Raises:
        InputError: the folder is missing or closed, or something else than a report is there.
    """
    where = "[doctor] --report must be"
    if not path.parent.is_dir():
        raise InputError(f"{where} in an existing folder, got {path}; make the folder or leave the option out")
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"{where} in a folder that can be written, got {path}; choose another")
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
    """The end of a group's line: how many passed, the worst ratio, the seconds."""
    counted = [row for row in rows if row.result != "skipped"]
    passed = f"{sum(row.result == 'ok' for row in counted)} of {len(counted)}"
    ratios = [row.ratio for row in rows if isinstance(row, CheckRow) and row.ratio is not None]
    seconds = sum(row.seconds for row in rows if isinstance(row, CheckRow))
    return f"{passed:>14}{f'{max(ratios):.3g}' if ratios else '':>25}{seconds:>8.1f}"


def findings(kernel_rows: Sequence[KernelRow], checks: Sequence[CheckRow]) -> Iterator[str]:
    """What is not as it should be, in lines of :data:`WIDTH` columns."""
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
                yield f"         ... and {len(texts) - SHOWN} more of {group}, in the report"


def _text(row: CheckRow) -> str:
    issues = ", ".join(f"#{number}" for number in row.issues)
    message = row.message
    for name in (row.case, row.case.rpartition(", ")[2]):  # the title has it
        message = message.removeprefix(name).lstrip(" :")
    text = f"{row.title}: {message}"
    if issues:
        text += f" (see pytorch {issues})"
    return f"{text}; nerf_metal does without: {row.avoided}" if row.avoided else text


def _wrapped(text: str) -> list[str]:
    lines = text.splitlines()[:6]  # of a compiler's text; the report has it all
    return [part for line in lines for part in textwrap.wrap(line, WIDTH, subsequent_indent=" " * 9)]
