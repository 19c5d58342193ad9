"""Libraries that the tests compile: further kernels for the launcher, and the doubles of Metal."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pytest
import torch

from nerf_metal import _C

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SHADERS = HERE / "shaders"
METAL = ROOT / "metal"
_CMAKE = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
_COMMON = ["-std=c++17", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror"]


def compiler() -> str:
    """The C++ compiler, or the test is skipped."""
    found = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if found is None:
        pytest.skip("needs a C++ compiler (c++, g++ or clang++), found none")
    return found


def kernel_flags() -> list[str]:
    """What the build compiles kernels with."""
    version = subprocess.run([compiler(), "--version"], capture_output=True, text=True, check=True).stdout
    names = ["KERNEL_FLAGS"] if "clang" in version else ["KERNEL_FLAGS", "GNU_KERNEL_FLAGS"]
    found = dict(re.findall(r"set\((\w+) ([^)]*)\)", _CMAKE))
    return [flag for name in names for flag in found[name].split()]


def isa_flags() -> dict[str, list[str]]:
    """Every host instruction set of the build for this processor, with its own flags, best last."""
    both = _CMAKE.split("CMAKE_SYSTEM_PROCESSOR MATCHES")[1].split("else()")
    part = both[0] if re.search(r"x86_64|amd64", sysconfig.get_platform()) else both[1]
    return {
        name: flags.split() for name, flags in re.findall(r"add_host_isa\((\w+)([^)]*)\)", part) if name != "strict"
    }


@functools.cache
def generator() -> ModuleType:
    """cmake/generate.py as a module."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "cmake" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_all(commands: list[list[str]]) -> None:
    """Commands side by side, one for each processor; the first that fails raises with what it printed."""

    def run(command: list[str]) -> None:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}\n{done.stdout}")

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(run, commands))


def kernel_commands(generated: Path, readings: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """What compiles every generated shader file in each reading, by the name of its object.

    Args:
        generated: where ``cmake/generate.py`` has written.
        readings: instruction set, or ``strict``, to the compiler and its flags.
    """
    sources = sorted(generated.glob("kernels_*.cpp"))
    return {
        f"{name}_{source.stem.removeprefix('kernels_')}": [*command, f"-DNERF_METAL_ISA={name}", str(source)]
        for name, command in readings.items()
        for source in sources
    }


# Barriers are dropped one at a time; the line stays, so that line numbers do.
BARRIER = re.compile(r"(?:threadgroup|simdgroup)_barrier\(mem_flags::mem_threadgroup\);")
_KERNEL = re.compile(r"^kernel void (\w+)\(.*?^\}\n", re.M | re.S)


def without_barriers(text: str) -> str:
    """For each barrier of each kernel a copy of the kernel without it, named ``<kernel>_without_<i>``."""
    out = [*re.findall(r"^#include .*$", text, re.M), "constexpr constant uint MUTANT_GROUP = 128u;"]
    for kernel in _KERNEL.finditer(text):
        for i, barrier in enumerate(BARRIER.finditer(kernel[0])):
            copy = kernel[0][: barrier.start()] + kernel[0][barrier.end() :]
            copy = copy.replace(kernel[1], f"{kernel[1]}_without_{i}", 1)
            out.append(re.sub(r"\bGROUP\b", "MUTANT_GROUP", copy))
    return "\n".join(out)


def copy_headers(metal: Path) -> None:
    """The package's headers that the test shaders include."""
    for header in ("common", "exponential", "language", "scan", "tile", "tile_shape", "tuning"):
        shutil.copy(METAL / f"{header}.h", metal)


def build_kernels(folder: Path) -> Path:
    """The test shaders as a library for ``_C.load_module``: every host instruction set, and the strict reading."""
    metal = folder / "metal"
    shutil.copytree(SHADERS, metal)
    copy_headers(metal)
    (metal / "mutants.metal").write_text(without_barriers((SHADERS / "right.metal").read_text()))
    return build_module(folder, isa_flags())


def build_module(folder: Path, isas: dict[str, list[str]]) -> Path:
    """The shaders of ``folder/metal`` as a library for ``_C.load_module``.

    Args:
        folder: where the library is built.
        isas: instruction set to its compiler flags; the strict reading comes with them, or alone where there are none.
    """
    metal, generated = folder / "metal", folder / "generated"
    generator().main(metal, generated)
    include = [f"-I{path}" for path in (ROOT / "csrc", metal, generated)]
    names = " ".join(f"X({name})" for name in isas) or "X(strict)"  # whose tables hold no plain loops
    kernel = [compiler(), *_COMMON, "-Wno-unused-function", *kernel_flags(), *include]
    # Visible tables: the tests call an instruction set's kernels that the launcher would not choose.
    readings = {name: [*kernel, *flags, "-fvisibility=default"] for name, flags in isas.items()}
    readings["strict"] = [*kernel, "-O1", "-DNERF_METAL_STRICT=1"]
    commands = kernel_commands(generated, readings)
    module = str(ROOT / "csrc" / "launcher" / "module.cpp")
    commands["module"] = [compiler(), *_COMMON, "-O1", *include, f"-DNERF_METAL_ISAS={names}", module]
    objects = [f"{folder}/{name}.o" for name in commands]
    run_all([[*command, "-c", "-o", o] for command, o in zip(commands.values(), objects, strict=True)])
    library = folder / "libtest_kernels.so"
    # The executor's functions are found in the extension when the library is loaded.
    undefined = ["-undefined", "dynamic_lookup"] if sys.platform == "darwin" else ["-Wl,-Bsymbolic"]
    run_all([[compiler(), "-shared", *undefined, *objects, "-o", str(library)]])
    return library


def load_modules(*paths: Path) -> None:
    """Hand libraries of kernels to the launcher."""
    ctypes.CDLL(_C.__file__, mode=os.RTLD_NOLOAD | os.RTLD_GLOBAL)  # the strict executor, for the libraries to find
    for path in paths:
        _C.load_module(str(path))


def build_doubles(folder: Path) -> dict[str, Path]:
    """The doubles of Metal: ``public`` as torch 2.14 has it, ``method`` as 2.10 to 2.13, ``bare`` as none."""
    source = HERE / "metal_double"
    lib = Path(torch.__file__).parent / "lib"
    python = sysconfig.get_path("include")
    run_all(
        [
            [compiler(), *_COMMON, "-O1", f"-I{python}", "-c", str(source / f"{name}.cpp"), "-o", f"{folder}/{name}.o"]
            for name in ("double", "public", "method")
        ]
    )
    found = {}
    for name, objects in {"public": ["double", "public"], "method": ["double", "method"], "bare": ["double"]}.items():
        found[name] = folder / f"libmetal_{name}.so"
        link = [compiler(), "-shared", *(f"{folder}/{o}.o" for o in objects), "-o", str(found[name])]
        # Torch is loaded for itself alone: a library that needs its functions must name it.
        run_all([[*link, f"-L{lib}", "-ltorch_cpu", "-lc10"]])
    return found
