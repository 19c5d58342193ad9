"""Compile every shader with Apple's own compiler, where Xcode brings it: ``python -m proof.xcrun_metal``.

Torch hands Metal the same text at run time (``nerf-metal doctor --full`` compiles it so, without Xcode); this compiler
says more, and its warnings are errors. Exit code 1 where a shader does not compile; 0 with a word where there is no
compiler.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from nerf_metal.kernels.signature import inline_includes, read_sources

METAL = Path(__file__).resolve().parent.parent / "metal"
XCRUN = ("xcrun", "-sdk", "macosx", "metal")
# The language of macOS 14, the oldest supported. Shaders have functions and constants that not every file uses.
FLAGS = (
    "-std=metal3.1",
    "-mmacosx-version-min=14.0",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wno-unused-function",
    "-Wno-unused-const-variable",
)


def why_not() -> str | None:
    """None where Apple's compiler is here, else the reason."""
    if shutil.which(XCRUN[0]) is None:
        return "xcrun is not here: it comes with Xcode, on macOS alone"
    if subprocess.run([*XCRUN, "--version"], capture_output=True, check=False).returncode != 0:
        return (
            "xcrun finds no metal; Xcode has it (xcodebuild -downloadComponent MetalToolchain), its tools alone do not"
        )
    return None


def main() -> int:
    """Compile each file as the one string that torch is given."""
    reason = why_not()
    if reason is not None:
        print(f"[xcrun_metal] nothing compiled: {reason}")
        return 0
    sources = read_sources(METAL)
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in sorted(sources):
            if not name.endswith(".metal"):
                continue
            path = Path(folder) / name
            path.write_text(inline_includes(name, sources), encoding="ascii")
            command = [*XCRUN, *FLAGS, "-c", str(path), "-o", f"{path}.air"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            failed += done.returncode != 0
            print(f"{'ok' if done.returncode == 0 else 'FAILED':8}{name}")
            print(done.stderr, end="")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
