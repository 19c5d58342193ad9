"""A second GPU's opinion on the shaders: ``python -m proof.cuda``.

Compiles the text that Metal's compiler sees with nvcc and prints what its assembler says of each kernel. With an NVIDIA
GPU at hand it then runs the named cases of every op there, forward and backward against the references, and some of
them under compute-sanitizer. ``--emulate`` runs them with neither nvcc nor a GPU: lanes are fibers of one processor.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from proof.cuda import build

# Sanitizers take a hundred times as long: every seventh case, a number that no list of sizes is a multiple of.
SANITIZED = 7
TOOLS = ("memcheck", "racecheck", "synccheck")
# Seconds for a process of cases. Emulated all of them take ten: what takes a hundred times as long and more, hangs.
PATIENCE = 1800.0


def gpu_name() -> str | None:
    """The first NVIDIA GPU's name; None where there is none, or no driver."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    device, name = ctypes.c_int(), ctypes.create_string_buffer(256)
    found = cuda.cuInit(0) == 0 and cuda.cuDeviceGet(ctypes.byref(device), 0) == 0
    return name.value.decode() if found and cuda.cuDeviceGetName(name, 256, device) == 0 else None


def run_cases(library: Path, every: int = 1, under: Sequence[str] = ()) -> dict[str, float]:
    """The named cases in a process of their own, ``under`` another command; the worst error over tolerance by kernel.

    Raises:
        RuntimeError: where a case fails, with all that do, or where they do not come to their end in time.
    """
    command = [*under, sys.executable, "-m", "proof.cuda.cases", str(library), "--every", str(every)]
    try:
        done = subprocess.run(command, cwd=build.ROOT, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"the named cases must end within {PATIENCE:.0f} s, does a kernel hang?") from None
    last = (done.stdout.splitlines() or [""])[-1]
    if not last.startswith("{"):
        raise RuntimeError(f"the named cases must run to their end, got\n{done.stdout}{done.stderr}")
    said = json.loads(last)
    if said["failures"]:
        raise RuntimeError("\n".join(said["failures"]))
    worst: dict[str, float] = said["kernels"]
    return worst


def sanitize(tool: str, library: Path, log: Path) -> int:
    """How many errors one of compute-sanitizer's tools reports; they are in ``log``.

    Raises:
        RuntimeError: where the log has no end.
    """
    log.unlink(missing_ok=True)
    run_cases(library, SANITIZED, ["compute-sanitizer", "--tool", tool, "--log-file", str(log)])
    summary = re.search(r"SUMMARY: (\d+) ", log.read_text(encoding="utf-8") if log.exists() else "")
    if summary is None:
        raise RuntimeError(f"compute-sanitizer did not come to its end; see {log}")
    return int(summary[1])


def run(library: Path, where: str, tools: Sequence[str]) -> int:
    """The cases, then the sanitizers' tools; how many errors the tools report."""
    worst = run_cases(library)
    for kernel, error in sorted(worst.items()):
        print(f"{kernel:40}{error:8.2g} of its tolerance")
    print(f"{len(worst)} kernels ran on {where}; every case is within its tolerance")
    errors = 0
    for tool in tools:
        log = library.with_name(f"{tool}.log")
        found = sanitize(tool, library, log)
        print(f"{tool}: {found} errors, {log}")
        errors += found
    return errors


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0, 1 where a kernel is wrong, or 2 where nothing could be compiled, with the reason on stderr."""
    parser = argparse.ArgumentParser(prog="python -m proof.cuda", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--arch", default=build.ARCH, help="of the GPU, as nvcc names it (default %(default)s)")
    parser.add_argument("--build", type=Path, default=build.ROOT / "build" / "cuda", help="default build/cuda")
    parser.add_argument("--emulate", action="store_true", help="run the cases on this processor, without nvcc")
    asked = parser.parse_args(arguments)
    folder = asked.build.resolve()
    nvcc = shutil.which("nvcc")
    if nvcc is None and not asked.emulate:
        message = "nvcc must be on PATH; install the CUDA toolkit (13.0 is known to do), or ask to --emulate"
        print(f"[cuda] {message}", file=sys.stderr)
        return 2
    try:
        if asked.emulate:
            return run(build.build_emulation(folder), "an emulation", ())
        assert nvcc is not None
        library, usages = build.compile_shaders(nvcc, folder, asked.arch)
        for kernel, (registers, stack, shared) in sorted(usages.items()):
            print(f"{kernel:40}{registers:4} registers{stack:6} bytes of stack{shared:7} shared")
        gpu = gpu_name()
        if gpu is None:
            print("nothing was run: no NVIDIA GPU was found")
            return 0
        tools = TOOLS if shutil.which("compute-sanitizer") else ()
        if not tools:
            print("compute-sanitizer was not found: memory and races are not checked")
        return 1 if run(library, gpu, tools) else 0
    except build.CompileError as error:
        print(error, file=sys.stderr)
        return 2
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
