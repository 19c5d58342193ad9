"""``python -m proof.macos_wheel``: build the wheel for macOS on arm64, print its path, check it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from proof.macos_wheel import ToolError
from proof.macos_wheel.build import ROOT, build_wheel
from proof.macos_wheel.check import check_wheel


def main(arguments: list[str] | None = None) -> int:
    """0 where all checks hold, 1 where one does not, 2 where nothing could be built or checked."""
    parser = argparse.ArgumentParser(prog="python -m proof.macos_wheel", description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "dist", metavar="DIR", help="folder of the wheel (dist)")
    parser.add_argument("--check", type=Path, metavar="WHEEL", help="check this wheel instead of building one")
    options = parser.parse_args(arguments)
    try:
        wheel = options.check or build_wheel(options.out)
        print(wheel, flush=True)
        checks = check_wheel(wheel)
    except ToolError as error:
        print(error, file=sys.stderr)
        return 2
    for check in checks:
        print(f"{'ok' if check.problem is None else 'FAILED':7}{check.name:24}{check.problem or check.found}")
    return int(any(check.problem for check in checks))


if __name__ == "__main__":
    sys.exit(main())
