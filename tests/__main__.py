"""Everything that must hold before a change lands: ``python -m tests``.

A word picks a part of it:

- ``python -m tests smoke``: lint, import floors and one quick test of every room, in less than 30 seconds on two cores;
  run it after each change;
- ``python -m tests lint``: lint, format, types and import floors;
- ``python -m tests docs``: build the documentation;
- ``python -m tests``: all of that, then every test, the slow ones last.

All other arguments go to pytest: ``python -m tests -m "not slow"``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TIERS = ("all", "smoke", "lint", "docs")
PYTHON = [sys.executable, "-m"]
Check = tuple[str, list[str]]
SLOW = "pytest slow"
SLOW_FOLDERS = ("tests", "proof")


def quick_lint() -> list[Check]:
    """Return the checks of the source that take a second each."""
    return [
        ("ruff check", [*PYTHON, "ruff", "check", "."]),
        ("ruff format", [*PYTHON, "ruff", "format", "--check", "."]),
        ("import floors", [str(Path(sys.executable).parent / "lint-imports")]),
    ]


def lint() -> list[Check]:
    """Return all checks of the source."""
    return [
        *quick_lint(),
        ("mypy", [*PYTHON, "mypy"]),
        ("clang-format", [*PYTHON, "tests.clang_format", *native_sources()]),
    ]


def native_sources() -> list[str]:
    """Return every C++, Metal and CUDA file of ours, relative to the root."""
    folders = ("csrc", "metal", "tests", "benchmarks", "proof")
    suffixes = (".cpp", ".h", ".metal", ".cu")
    found = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in suffixes]
    # Headers that stand for Metal's own, which have no ending.
    found += (ROOT / "proof" / "cuda" / "include").glob("metal_*")
    return sorted(str(path.relative_to(ROOT)) for path in found)


def docs(site: str) -> list[Check]:
    """Return the build of the pages into a folder that is thrown away. ``--quiet`` would hide warnings from
    ``--strict`` too."""
    return [("docs", [*PYTHON, "mkdocs", "build", "--strict", "--site-dir", site])]


def smoke(arguments: list[str]) -> list[Check]:
    """Return the tier for after each change."""
    return [*quick_lint(), ("pytest smoke", [*PYTHON, "pytest", "-m", "smoke", "tests/smoke", *arguments])]


def everything(site: str, arguments: list[str]) -> list[Check]:
    """Return every check, the slow tests last. A selection by ``-m`` takes the place of both runs of pytest."""
    runs: list[Check] = [("pytest", [*PYTHON, "pytest", *arguments])]
    if "-m" not in arguments:
        runs = [("pytest not slow", [*PYTHON, "pytest", "-m", "not slow", *arguments])]
        if arguments:  # they may name paths
            runs += [(SLOW, [*PYTHON, "pytest", "-m", "slow", *arguments])]
        else:
            runs += [(f"{SLOW} {folder}", [*PYTHON, "pytest", "-m", "slow", folder]) for folder in SLOW_FOLDERS]
    return [*lint(), *docs(site), *runs]


def checks(tier: str, site: str, arguments: list[str]) -> list[Check]:
    """Return name and command of each check of a tier."""
    if tier == "smoke":
        return smoke(arguments)
    if tier == "lint":
        return lint()
    return docs(site) if tier == "docs" else everything(site, arguments)


def main() -> int:
    """Run the checks, the rest too when one fails, and say which failed."""
    arguments = sys.argv[1:]
    tier = arguments.pop(0) if arguments and arguments[0] in TIERS else "all"
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}  # an advertisement of the theme's next version
    results = []
    beside: subprocess.Popen[bytes] | None = None
    started = ("", 0.0)
    with tempfile.TemporaryDirectory() as site:
        for name, command in checks(tier, site, arguments):
            print(f"== {name}", flush=True)
            start = time.monotonic()
            if name == f"{SLOW} {SLOW_FOLDERS[0]}":  # most of them use one core: two folders at a time
                beside = subprocess.Popen(command, cwd=ROOT, env=environment)
                started = (name, start)
                continue
            code = subprocess.call(command, cwd=ROOT, env=environment)
            results.append((name, code, time.monotonic() - start))
        if beside is not None:
            results.append((started[0], beside.wait(), time.monotonic() - started[1]))
    print("== summary")
    for name, code, seconds in results:
        print(f"{'ok' if code == 0 else 'FAILED':7}{name:16}{seconds:7.1f} s")
    return int(any(code for _, code, _ in results))


if __name__ == "__main__":
    sys.exit(main())
