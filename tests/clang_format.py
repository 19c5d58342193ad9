"""Check C++ and Metal files with clang-format: ``python -m tests.clang_format FILE...``; ``--fix`` first rewrites them.

clang-format does not know ``.metal``; handed a file's text under a C++ name it formats it by the same rules.
"""

from __future__ import annotations

import difflib
import subprocess
import sys
from pathlib import Path


def formatted(path: Path) -> str:
    """The file's text as clang-format would have it."""
    program = Path(sys.executable).parent / "clang-format"
    folder = "metal/" if path.suffix == ".metal" else ""  # whose style knows the word "kernel", a name elsewhere
    command = [str(program), f"--assume-filename={folder}shader.cpp", "--style=file"]
    return subprocess.run(command, input=path.read_text(), capture_output=True, text=True, check=True).stdout


def main() -> int:
    """1 where any file differs; the differences are printed."""
    fix = "--fix" in sys.argv
    failed = False
    for path in (Path(name) for name in sys.argv[1:] if name != "--fix"):
        before, after = path.read_text(), formatted(path)
        if before == after:
            continue
        if fix:
            path.write_text(after)
            continue
        failed = True
        sys.stdout.writelines(
            difflib.unified_diff(
                before.splitlines(keepends=True), after.splitlines(keepends=True), str(path), "formatted"
            )
        )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
