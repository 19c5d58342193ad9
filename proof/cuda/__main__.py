"""A second GPU's opinion on the shaders: ``python -m proof.cuda``.

Compiles the text that Metal's compiler sees with nvcc and prints what its assembler says of each kernel. With an NVIDIA
GPU at hand it then runs the named cases of every op there, forward and backward against the references, and some of
them under compute-sanitizer. ``--emulate`` runs them with neither nvcc nor a GPU: lanes are fibers of one processor.
"""

from __future__ import annotations

import argparse
import ctypes
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from proof.cuda import build, cases

# Sanitizers take a hundred times as long: every seventh case, a number that no list of sizes is a multiple of.
SANITIZED = 7
TOOLS = ("memcheck", "racecheck", "synccheck")


def gpu_name() -> str | None:
    """The first NVIDIA GPU's name; None where there is none, or no driver."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    device, name = ctypes.c_int(), ctypes.create_string_buffer(256)
    found = cuda.cuInit(0) == 0 and cuda.cuDeviceGet(ctypes.byref(device), 0) == 0
    return name.value.decode() if found and cuda.cuDeviceGetName(name, 256, device) == 0 else None


def run_cases(library: Path, every: int = 1) -> None:
    """The named cases, of every so many the first; prints the worst error over tolerance of each kernel.

    Raises:
        RuntimeError: where a case fails, with all that do.
    """
    worst, failures = cases.run_cases(library, every)
    if failures:
        raise RuntimeError("\n".join(failures))
    for kernel, error in sorted(worst.items()):
        print(f"{kernel:40}{error:8.2g} of its tolerance")
    print(f"{len(worst)} kernels; every case is within its tolerance")


def sanitize(tool: str, library: Path, log: Path) -> int:
    """How many errors one of compute-sanitizer's tools reports; they are in ``log``.

    Raises:
        RuntimeError: where the log has no end.
    """
    log.unlink(missing_ok=True)
    own = [sys.executable, "-m", "proof.cuda", "--cases", str(library)]
    command = ["compute-sanitizer", "--tool", tool, "--log-file", str(log), *own]
    done = subprocess.run(command, cwd=build.ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"the named cases must run to their end under {tool}, got\n{done.stdout}{done.stderr}")
    summary = re.search(r"SUMMARY: (\d+) ", log.read_text(encoding="utf-8") if log.exists() else "")
    if summary is None:
        raise RuntimeError(f"compute-sanitizer did not come to its end; see {log}")
    return int(summary[1])


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0, 1 where a kernel is wrong, or 2 where nothing could be compiled, with the reason on stderr."""
    parser = argparse.ArgumentParser(prog="python -m proof.cuda", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--arch", default=build.ARCH, help="of the GPU, as nvcc names it (default %(default)s)")
    parser.add_argument("--build", type=Path, default=build.ROOT / "build" / "cuda", help="default build/cuda")
    parser.add_argument("--emulate", action="store_true", help="run the cases on this processor, without nvcc")
    parser.add_argument("--cases", type=Path, metavar="LIBRARY", help="run some of the cases on what was built before")
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    folder = asked.build.resolve()
    nvcc = shutil.which("nvcc")
    if nvcc is None and not (asked.emulate or asked.cases):
        message = "nvcc must be on PATH; install the CUDA toolkit (13.0 is known to do), or ask to --emulate"
        print(f"[cuda] {message}", file=sys.stderr)
        return 2
    errors = 0
    try:
        if asked.cases:
            run_cases(asked.cases.resolve(), SANITIZED)
            return 0
        if asked.emulate:
            run_cases(build.build_emulation(folder))
            return 0
        assert nvcc is not None
        library, usages = build.compile_shaders(nvcc, folder, asked.arch)
        for kernel, (registers, stack, shared) in sorted(usages.items()):
            print(f"{kernel:40}{registers:4} registers{stack:6} bytes of stack{shared:7} shared")
        if (gpu := gpu_name()) is None:
            print("nothing was run: no NVIDIA GPU was found")
            return 0
        print(gpu)
        run_cases(library)
        if shutil.which("compute-sanitizer") is None:
            print("compute-sanitizer was not found: memory and races are not checked")
            return 0
        for tool in TOOLS:
            found = sanitize(tool, library, folder / f"{tool}.log")
            print(f"{tool}: {found} errors, {folder / tool}.log")
            errors += found
    except build.CompileError as error:
        print(error, file=sys.stderr)
        return 2
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    return int(errors > 0)


if __name__ == "__main__":
    raise SystemExit(main())
