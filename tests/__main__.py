"""Everything that must hold before a change lands: ``python -m tests``.

Lint, format, types and import floors first, since they are quick; then the tests, the slow ones last. Arguments go to
pytest: ``python -m tests -m "not slow"``.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def checks(arguments: list[str]) -> list[tuple[str, list[str]]]:
    """Name and command of each check."""
    python = [sys.executable, "-m"]
    shaders = sorted(str(p.relative_to(ROOT)) for p in (ROOT / "metal").glob("[!.]*"))
    sources = sorted(str(p.relative_to(ROOT)) for p in (ROOT / "csrc").rglob("*.*"))
    native = sorted(
        str(p.relative_to(ROOT))
        for folder in ("tests", "benchmarks", "proof")
        for suffix in ("cpp", "h", "metal", "cu")
        for p in (ROOT / folder).rglob(f"*.{suffix}")
    )
    # Headers that stand for Metal's own, which have no ending.
    native += [str(p.relative_to(ROOT)) for p in sorted((ROOT / "proof" / "cuda" / "include").glob("metal_*"))]
    scripts = Path(sys.executable).parent
    return [
        ("ruff check", [*python, "ruff", "check", "."]),
        ("ruff format", [*python, "ruff", "format", "--check", "."]),
        ("mypy", [*python, "mypy"]),
        ("import floors", [str(scripts / "lint-imports")]),
        ("clang-format", [*python, "tests.clang_format", *sources, *native, *shaders]),
        ("pytest", [*python, "pytest", "-m", "not slow", *arguments]),
        ("pytest slow", [*python, "pytest", "-m", "slow", *arguments]),
    ]


def main() -> int:
    """Run all checks, the rest too when one fails, and say which failed."""
    arguments = sys.argv[1:]
    results = []
    for name, command in checks(arguments):
        if "-m" in arguments and name == "pytest slow":
            continue  # the caller's own selection has run
        print(f"== {name}", flush=True)
        start = time.monotonic()
        code = subprocess.call(command, cwd=ROOT)
        results.append((name, code, time.monotonic() - start))
    print("== summary")
    for name, code, seconds in results:
        print(f"{'ok' if code == 0 else 'FAILED':7}{name:16}{seconds:7.1f} s")
    return int(any(code for _, code, _ in results))


if __name__ == "__main__":
    sys.exit(main())
