"""The cross-build: pip and scikit-build-core as on a Mac, zig's clang as the compiler."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from proof.macos_wheel import ToolError

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
MACOS = (14, 0)  # the oldest: torch's wheels and the README ask for it
PLATFORM = f"macosx_{MACOS[0]}_{MACOS[1]}_arm64"
PYTHON = f"{sys.version_info.major}{sys.version_info.minor}"  # whose headers are compiled against
SUFFIX = f".cpython-{PYTHON}-darwin.so"
LIBCXX = "/usr/lib/libc++.1.dylib"
LIBSYSTEM = "/usr/lib/libSystem.B.dylib"
SYSTEM_SYMBOLS = HERE / "system_symbols.txt"


def system_symbols() -> dict[str, frozenset[str]]:
    """Of each system library the symbols that the oldest torch imports: where torch loads, they are."""
    _, *libraries = re.split(r"^(/\S+):$", SYSTEM_SYMBOLS.read_text(encoding="utf-8"), flags=re.M)
    return {name: frozenset(text.split()) for name, text in zip(libraries[::2], libraries[1::2], strict=True)}


def zig() -> Path:
    """The program of the package ``ziglang``.

    Raises:
        ToolError: where it is not installed.
    """
    spec = importlib.util.find_spec("ziglang")
    if spec is None or spec.origin is None:
        raise ToolError("[zig] the package ziglang must be installed, found none; pip install -e '.[test]'")
    return Path(spec.origin).parent / "zig"


def write_libcxx(path: Path) -> None:
    """A text stub of macOS's libc++: the linker takes from it what it lists, and nothing else."""
    symbols = ", ".join(f"'{symbol}'" for symbol in sorted(system_symbols()[LIBCXX]))
    target = "targets: [ arm64-macos ]"
    path.write_text(
        f"--- !tapi-tbd\ntbd-version: 4\n{target}\ninstall-name: '{LIBCXX}'\n"
        f"exports:\n  - {target}\n    symbols: [ {symbols} ]\n...\n",
        encoding="ascii",
    )


def build_wheel(out: Path) -> Path:
    """Build the checkout's wheel into ``out`` and return its path.

    Raises:
        ToolError: where the build fails, with the compiler's words.
    """
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        libcxx = Path(scratch) / "libc++.tbd"
        write_libcxx(libcxx)
        version = f"{MACOS[0]}.{MACOS[1]}"
        environment = {
            **os.environ,
            "NERF_METAL_ZIG": str(zig()),
            "NERF_METAL_LIBCXX": str(libcxx),
            "_PYTHON_HOST_PLATFORM": f"macosx-{version}-arm64",
            "ARCHFLAGS": "-arch arm64",
            "MACOSX_DEPLOYMENT_TARGET": version,
            "SETUPTOOLS_EXT_SUFFIX": SUFFIX,
        }
        command = [sys.executable, "-m", "pip", "wheel", str(ROOT), "--no-build-isolation", "--no-deps"]
        command += ["--disable-pip-version-check", "--wheel-dir", str(Path(scratch) / "wheel")]
        command += ["-C", f"cmake.define.CMAKE_TOOLCHAIN_FILE={HERE / 'toolchain.cmake'}"]
        command += ["-C", "cmake.define.NERF_METAL_WERROR=ON", "-C", f"build-dir={Path(scratch) / 'build'}"]
        run = subprocess.run(command, env=environment, capture_output=True, text=True)
        if run.returncode != 0:
            raise ToolError(f"[build] the cross-build must succeed, pip says:\n{run.stdout}{run.stderr}")
        (built,) = (Path(scratch) / "wheel").glob("*.whl")
        wheel = out / built.name
        wheel.write_bytes(built.read_bytes())
    return wheel
