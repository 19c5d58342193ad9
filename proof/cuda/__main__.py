"""A second GPU's opinion on the shaders: ``python -m proof.cuda``.

Compiles the text that Metal's compiler sees with nvcc and prints what its assembler says of each kernel. With an NVIDIA
GPU at hand it then runs the named cases of every op there, forward and backward against the references, some of them
under compute-sanitizer, measures every kernel, and writes docs/cuda.md.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from proof.cuda import build, report, speed
from proof.cuda.provider import on_cuda

DOCS = build.ROOT / "docs" / "cuda.md"
# Sanitizers take a hundred times as long: every seventh case, a number that no list of sizes is a multiple of.
SANITIZED = 7
TOOLS = ("memcheck", "racecheck", "synccheck")
# Seconds for a process of cases. Emulated all of them take ten, and a hundred times that is 17 minutes: what takes
# longer hangs.
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


def run_cases(library: Path, every: int = 1, under: Sequence[str] = ()) -> dict[str, dict[str, float]]:
    """The named cases in a process of their own, ``under`` another command; cases and worst error by kernel.

    Raises:
        RuntimeError: where a case fails, with all that do, or where they do not come to their end in time.
    """
    own = [sys.executable, "-m", "proof.cuda.cases", str(library), "--every", str(every)]
    out, err = _in_time([*under, *own])
    lines = out.splitlines()
    if not lines or not lines[-1].startswith("{"):
        raise RuntimeError(f"the named cases must run to their end, got\n{out}{err}")
    said = json.loads(lines[-1])
    if said["failures"]:
        raise RuntimeError("\n".join(said["failures"]))
    kernels: dict[str, dict[str, float]] = said["kernels"]
    return kernels


def _in_time(command: Sequence[str]) -> tuple[str, str]:
    """What a command prints."""
    pipe = subprocess.PIPE
    # A session of its own: the cases are compute-sanitizer's child, and must end with it.
    with subprocess.Popen(
        command, cwd=build.ROOT, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    ) as process:
        try:
            return process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            words = f"the named cases must end within {PATIENCE:.0f} s, does a kernel hang? got no end of "
            raise RuntimeError(words + " ".join(command)) from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def sanitize(tool: str, library: Path, log: Path) -> dict[str, int]:
    """What one of compute-sanitizer's tools says of each kernel that ran under it: see :func:`lines_about`."""
    log.unlink(missing_ok=True)
    ran = run_cases(library, SANITIZED, ["compute-sanitizer", "--tool", tool, "--log-file", str(log)])
    return lines_about(ran, log)


def lines_about(kernels: Iterable[str], log: Path) -> dict[str, int]:
    """How many lines of a sanitizer's log report something in each of these kernels.

    Raises:
        RuntimeError: where the log has no end, or errors of no kernel.
    """
    text = log.read_text(encoding="utf-8") if log.exists() else ""
    found = {kernel: len(re.findall(rf"^=.*\bat {kernel}_grid\b", text, re.M)) for kernel in kernels}
    summary = re.search(r"SUMMARY: (\d+) ", text)
    if summary is None:
        raise RuntimeError(f"compute-sanitizer did not come to its end; see {log}")
    if int(summary[1]) > 0 and not any(found.values()):
        raise RuntimeError(f"compute-sanitizer has {summary[1]} errors of no kernel; see {log}")
    return found


def on_gpu(gpu: str, library: Path, usages: Sequence[build.Usage]) -> report.Run:
    """Everything that needs a GPU."""
    double = library.parent / "libmetal_public.so"
    double.unlink(missing_ok=True)  # one of an older tree; the cases build it
    cases = run_cases(library)
    print(f"{len(cases)} kernels ran on {gpu}; every case is within its tolerance")
    hazards = {}
    if shutil.which("compute-sanitizer") is None:
        print("compute-sanitizer was not found: memory and races are not checked")
    else:
        hazards = {tool: sanitize(tool, library, library.with_name(f"{tool}.log")) for tool in TOOLS}
        for tool, found in hazards.items():
            print(f"{tool}: {sum(found.values())} lines about {len(found)} kernels, {library.with_name(f'{tool}.log')}")
    with on_cuda(double, library) as executor:
        ceilings = executor.ceilings()
        return report.Run(gpu, usages, cases, hazards, ceilings, speed.measure(executor, ceilings))


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0, 1 where a kernel is wrong, or 2 where nothing could be compiled, with the reason on stderr."""
    parser = argparse.ArgumentParser(prog="python -m proof.cuda", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--arch", default=build.ARCH, help="of the GPU, as nvcc names it (default %(default)s)")
    parser.add_argument("--build", type=Path, default=build.ROOT / "build" / "cuda", help="default build/cuda")
    parser.add_argument("--compile-only", action="store_true", help="run nothing, even with a GPU at hand")
    asked = parser.parse_args(arguments)
    if re.fullmatch(r"sm_\d+[af]?", asked.arch) is None:
        print(
            f"proof.cuda: --arch must be like {build.ARCH}, got {asked.arch}; see nvcc --list-gpu-code", file=sys.stderr
        )
        return 2
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        print("proof.cuda: nvcc must be on PATH; install the CUDA toolkit (13.0 is known to do)", file=sys.stderr)
        return 2
    folder = asked.build.resolve()
    try:
        usages = build.compile_shaders(nvcc, folder, asked.arch)
        library = build.link(nvcc, folder, asked.arch)
    except build.CompileError as error:
        print(error, file=sys.stderr)
        return 2
    print(*report.compile_table(usages), sep="\n")
    gpu = None if asked.compile_only else gpu_name()
    if gpu is None:
        print("nothing was run: " + ("as asked" if asked.compile_only else "no NVIDIA GPU was found"))
        return 0
    try:
        run = on_gpu(gpu, library, usages)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    DOCS.write_text(report.markdown(run), encoding="utf-8")
    print(f"wrote {DOCS}")
    return 1 if any(sum(found.values()) for found in run.hazards.values()) else 0


if __name__ == "__main__":
    raise SystemExit(main())
