"""``python -m proof.conformance [FILES]``: check shaders, by default all of metal/, against what Metal forbids."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from proof.conformance import check
from proof.conformance.clang import METAL


def main(arguments: list[str] | None = None) -> int:
    """0 where nothing was found, 1 where something was, 2 for a file that is not there or a clang that cannot run."""
    parser = argparse.ArgumentParser(prog="python -m proof.conformance", description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, metavar="FILES", help="shaders; default: metal/*.metal")
    files = parser.parse_args(arguments).files or sorted(METAL.glob("*.metal"))
    bad = False
    for file in files:
        if not file.is_file():
            print(f"[conformance] FILES must be shaders, got {file}; no such file", file=sys.stderr)
            return 2
        try:
            found = check(file)
        except (RuntimeError, ValueError) as error:
            print(error, file=sys.stderr)
            return 2
        bad |= bool(found)
        print("\n".join(map(str, found)) if found else f"{os.path.relpath(file)}: ok")
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
