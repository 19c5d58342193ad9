"""A copy of the checkout whose extension is built with sanitizers, and processes that run in it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pybind11

from tests.kernels.libraries import generator, isa_flags, kernel_commands, kernel_flags, run_all

ROOT = Path(__file__).resolve().parents[2]
# Beside what its own name covers: a float that its integer type cannot hold, another number on each processor.
FLAGS = {"address": ["-fsanitize=address"], "undefined": ["-fsanitize=undefined,float-cast-overflow"]}
# -O1: at -O3 the kernels compile for minutes. No warnings: they are the ordinary build's affair.
_COMPILE = ["-c", "-std=c++17", "-fPIC", "-fvisibility=hidden", "-O1", "-g1", "-fno-omit-frame-pointer", "-w"]
_COMPILE += ["-fno-sanitize-recover=all"]
_COPIED = ("cmake", "csrc", "metal", "nerf_metal", "tests", "proof", "conftest.py", "CMakeLists.txt", "pyproject.toml")
# Python finds this in every process of the copy.
_SITE = """import sys

# The finder of an editable install would put the checkout's package before this one.
sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__name__ != "ScikitBuildRedirectingFinder"]
"""
# Leaks: CPython and torch keep much until the process ends, none of it ours; tests/kernels/handle_growth.py watches
# the launcher. Too much memory asked for is Python's MemoryError. The report of a wild address is the sanitizer's, not
# pytest's. Frames on the heap, which would show a use after their function's end: g++ before 14 aligns none to the 64
# bytes of the widest vectors, and one for each lane makes strict mode ten times slower. Two globals of one name: the
# module that each library of kernels exports.
_ASAN = "detect_leaks=0:allocator_may_return_null=1:handle_segv=2:detect_stack_use_after_return=0"
_ASAN += ":detect_odr_violation=0"
_UNDEFINED = re.compile(r"^\S+: runtime error: ", re.M)


class UnavailableError(Exception):
    """One line: why nothing can be built or run here."""


@dataclass(frozen=True)
class Toolchain:
    """A compiler and the flags of its sanitizers; libraries that a process must load before all others."""

    compiler: str
    flags: tuple[str, ...]
    preload: tuple[str, ...]


def toolchain(sanitizers: Sequence[str]) -> Toolchain:
    """The compiler of ``CXX``, else the system's.

    Raises:
        UnavailableError: where it lacks one of the sanitizers.
    """
    if not sys.platform.startswith("linux"):
        raise UnavailableError(
            f"needs Linux, where a library can be loaded before Python's own, this is {sys.platform}"
        )
    asked = os.environ.get("CXX") or "g++"
    compiler = shutil.which(asked)
    if compiler is None:
        raise UnavailableError(f"needs a C++ compiler, found no {asked}; set CXX")
    flags = [flag for name in sanitizers for flag in FLAGS[name]]
    made = subprocess.run(
        [compiler, *flags, "-x", "c++", "-", "-o", os.devnull],
        input="int main() {}",
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        said = (made.stderr.splitlines() or [f"exit code {made.returncode}"])[-1]
        raise UnavailableError(f"needs a compiler with the sanitizers {', '.join(sanitizers)}, {compiler} says: {said}")
    # Python was built without them. libstdc++ too, or AddressSanitizer misses the function that throws exceptions.
    names = ["libasan.so", "libstdc++.so"] if "address" in sanitizers else []
    found = [_library(compiler, name) for name in names]
    missing = [name for name, path in zip(names, found, strict=True) if not path.is_absolute()]
    if missing:
        raise UnavailableError(f"needs a compiler with {missing[0]}, {compiler} has none; set CXX=g++")
    return Toolchain(compiler, tuple(flags), tuple(map(str, found)))


def _library(compiler: str, name: str) -> Path:
    said = subprocess.run([compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout
    return Path(said.strip())


@dataclass(frozen=True)
class Run:
    """What a process in the copy did. ``reports`` is the text of the sanitizers, empty where they found nothing."""

    code: int
    output: str
    reports: str
    seconds: float


@dataclass(frozen=True)
class Tree:
    """The copy, built."""

    folder: Path
    tools: Toolchain
    isas: tuple[str, ...]

    def run(self, name: str, arguments: Sequence[str], variables: dict[str, str] | None = None) -> Run:
        """Run Python with these arguments; ``name`` tells its reports from others."""
        reports = self.folder / "reports" / name
        reports.mkdir(parents=True)
        start = time.monotonic()
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=os.environ | self._environment(reports / "report") | (variables or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        found = [path.read_text(errors="replace") for path in sorted(reports.iterdir())]
        if undefined := _UNDEFINED.search(done.stdout):  # g++ has no files for these
            found.append(done.stdout[undefined.start() :])
        return Run(done.returncode, done.stdout, "\n".join(found), time.monotonic() - start)

    def _environment(self, report: Path) -> dict[str, str]:
        # Files: in the words of a process that a test started and listens to, a report would be lost.
        return {
            "PYTHONPATH": str(self.folder),
            "PYTHONMALLOC": "malloc",  # so that objects are watched too
            "LD_PRELOAD": " ".join(self.tools.preload),
            "ASAN_OPTIONS": f"{_ASAN}:log_path={report}",
            "UBSAN_OPTIONS": "print_stacktrace=1",
        }


def copy_and_build(folder: Path, tools: Toolchain, isas: Sequence[str]) -> Tree:
    """Copy the checkout into an empty folder and build its extension for these host instruction sets and strict mode.

    Raises:
        RuntimeError: with the compiler's words.
    """
    tree = folder / "tree"
    for name in _COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("_C.*so", "__pycache__"))
        else:
            shutil.copy(ROOT / name, tree / name)
    (tree / "sitecustomize.py").write_text(_SITE)
    built = tree / "nerf_metal" / f"_C{sysconfig.get_config_var('EXT_SUFFIX')}"
    build_module(tree / "metal", built, tools, isas, launcher=True)
    done = Tree(tree, tools, tuple(isas))
    probe = done.run("probe", ["-c", "from nerf_metal import _C; print(_C.__file__)"])
    if probe.code != 0 or probe.output.strip() != str(built):
        raise RuntimeError(f"the copy must load its own extension {built}, got: {probe.output}{probe.reports}")
    return done


def build_module(metal: Path, out: Path, tools: Toolchain, isas: Sequence[str], *, launcher: bool = False) -> None:
    """Build the shaders of a folder: a library for ``_C.load_module``, or with the launcher the extension itself."""
    csrc, build = ROOT / "csrc", out.parent / f"build_{out.name.split('.')[0]}"
    generator().main(metal, build)
    table = f"-DNERF_METAL_ISAS={' '.join(f'X({name})' for name in isas)}"
    common = [tools.compiler, *_COMPILE, *tools.flags, *(f"-I{path}" for path in (csrc, metal, build))]
    # As the build compiles them, but for its -O3.
    kernels = [*common, *(flag for flag in kernel_flags() if not flag.startswith("-O"))]
    readings = {name: [*kernels, *isa_flags()[name]] for name in reversed(isas)}
    commands = kernel_commands(build, readings | {"strict": [*kernels, "-DNERF_METAL_STRICT=1"]})
    commands["module"] = [*common, table, str(csrc / "launcher" / "module.cpp")]
    if launcher:
        sources = (path for path in sorted(csrc.rglob("*.cpp")) if path.stem != "module")
        python = [f"-I{sysconfig.get_path('include')}", f"-I{pybind11.get_include()}"]
        commands |= {path.stem: [*common, *python, str(path)] for path in sources}
    made = [[*command, "-o", str(build / f"{name}.o")] for name, command in commands.items()]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # the longest come first
        list(pool.map(lambda command: run_all([command]), made))
    objects = [str(build / f"{name}.o") for name in commands]
    run_all([[tools.compiler, "-shared", *tools.flags, *objects, "-lpthread", "-ldl", "-o", str(out)]])
