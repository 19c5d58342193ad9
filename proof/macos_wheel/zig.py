"""Small Mach-O files for the checks, and programs for arm64 Linux, by zig."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from proof.macos_wheel.build import write_libcxx, zig

ARM64_MACOS_14 = "aarch64-macos.14.0"


def run_zig(*arguments: str) -> subprocess.CompletedProcess[str]:
    """zig's result, with what it printed."""
    return subprocess.run([str(zig()), *arguments], capture_output=True, text=True)


def library(folder: Path, text: str, target: str = ARM64_MACOS_14, language: str = "c") -> Path:
    """A dynamic library for macOS, linked as the extension is."""
    source, made, out, stub = (folder / name for name in (f"source.{language}", "source.o", "library.so", "libc++.tbd"))
    source.write_text(text)
    write_libcxx(stub)
    link = ["-shared", "-nostdlib++", str(stub), "-undefined", "dynamic_lookup", str(made), "-o", str(out)]
    for arguments in (["-O2", "-fvisibility=hidden", "-c", str(source), "-o", str(made)], link):
        result = run_zig("c++" if language == "cpp" else "cc", f"--target={target}", *arguments)
        assert result.returncode == 0, result.stderr
    return out


def emulator() -> str:
    """The program that runs arm64 Linux programs, or the test is skipped."""
    found = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
    if found is None:
        pytest.skip("needs qemu-aarch64 (qemu-user) to run arm64 programs, found none")
    return found
