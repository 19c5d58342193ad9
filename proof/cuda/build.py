"""Compile the shaders with nvcc, and read what its assembler says of each kernel."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from proof.cuda import source

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
METAL = ROOT / "metal"
# Results and inputs below the least normal float become 0, as Apple's GPUs may have it.
FLAGS = ["-std=c++17", "-O3", "-ftz=true", "-Xptxas=-v", "-Xcompiler=-fPIC,-fvisibility=hidden"]
# But for a comparison (186) with a constant that is 0 on Metal, not on the host.
FLAGS += ["-Werror=all-warnings", "-Xcompiler=-Wall,-Werror", "-diag-suppress=186"]
ARCH = "sm_90"


@dataclass(frozen=True)
class Usage:
    """What ptxas says of one kernel. Bytes of stack and spills are a thread's, shared ones a threadgroup's."""

    kernel: str
    registers: int
    stack: int
    spill_stores: int
    spill_loads: int
    shared: int


class CompileError(Exception):
    """nvcc refused something; the text is what it printed."""


_ENTRY = re.compile(
    r"Compiling entry function '(?P<name>\w+)_grid'.*?"
    r"(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads.*?"
    r"Used (?P<registers>\d+) registers(?P<rest>[^\n]*)",
    re.S,
)
_SHARED = re.compile(r"(\d+) bytes smem")


def usages(text: str) -> list[Usage]:
    """What ``-Xptxas=-v`` printed, kernel by kernel."""
    found = []
    for entry in _ENTRY.finditer(text):
        shared = _SHARED.search(entry["rest"])
        registers, stack, stores, loads = (int(entry[name]) for name in ("registers", "stack", "stores", "loads"))
        found.append(Usage(entry["name"], registers, stack, stores, loads, int(shared[1]) if shared else 0))
    return sorted(found, key=lambda usage: usage.kernel)


def include_flags(folder: Path, metal: Path = METAL) -> list[str]:
    """Where the files generated in ``folder`` find what they include."""
    return [f"-I{path}" for path in (HERE / "include", ROOT / "csrc", metal, folder)]


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise CompileError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def compile_shaders(nvcc: str, folder: Path, arch: str = ARCH, metal: Path = METAL, jobs: int = 2) -> list[Usage]:
    """One object for each shader file, in ``folder``.

    Raises:
        CompileError: with nvcc's own words, or where ptxas does not say what is read here of every kernel.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stems = source.write(metal, folder)
    common = [nvcc, *FLAGS, f"-arch={arch}", *include_flags(folder, metal), "-c"]
    commands = [[*common, str(folder / f"{stem}.cu"), "-o", str(folder / f"{stem}.o")] for stem in stems]
    with ThreadPoolExecutor(jobs) as pool:
        found = usages("\n".join(pool.map(_run, commands)))
    named = {kernel.name for of_file in source.kernels(metal).values() for kernel in of_file}
    if missing := sorted(named - {usage.kernel for usage in found}):
        raise CompileError(
            f"ptxas must say registers, stack and spills of every kernel as {__name__} reads them, got none of "
            + ", ".join(missing)
        )
    return found


def link(nvcc: str, folder: Path, arch: str = ARCH, metal: Path = METAL) -> Path:
    """The library that the double of Metal calls, from the objects of :func:`compile_shaders`."""
    library = folder / "libnerf_metal_cuda.so"
    own = [str(HERE / name) for name in ("launcher.cpp", "ceilings.cu")]
    objects = [str(folder / f"{stem}.o") for stem in source.kernels(metal)]
    flags = [flag for flag in FLAGS if flag != "-Xptxas=-v"]
    command = [nvcc, *flags, f"-arch={arch}", *include_flags(folder, metal), "-shared", *objects, *own]
    _run([*command, "-o", str(library)])
    return library
