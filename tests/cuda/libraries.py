"""What the CUDA tests compile: the package's shaders and the launcher's test shaders, for a GPU or its emulation."""

from __future__ import annotations

import ctypes
import platform
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nerf_metal import kernels
from tests.kernels.libraries import SHADERS, compiler, copy_headers, run_all
from tools.cuda import build, source

EMULATION = Path(__file__).resolve().parent / "emulation"
Launcher = Callable[..., None]


def nvcc() -> str:
    """The CUDA compiler, or the test is skipped."""
    found = shutil.which("nvcc")
    if found is None:
        pytest.skip("needs nvcc on PATH (the CUDA toolkit), found none")
    return found


def copy_test_shaders(folder: Path) -> Path:
    """What the launcher's tests know the values of, with the package's headers."""
    folder.mkdir(parents=True)
    for name in ("language.metal", "right.metal", "params.h", "stage.h"):
        shutil.copy(SHADERS / name, folder)
    copy_headers(folder)
    return folder


def build_emulation(folder: Path, metal: Path = build.METAL) -> Path:
    """The generated files and the launcher, compiled by g++ against ``emulation/``."""
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip(f"the emulation flushes denormals by x86-64's control register, this is {platform.machine()}")
    folder.mkdir(parents=True, exist_ok=True)
    stems = source.write(metal, folder)
    common = [compiler(), "-std=c++17", "-O2", "-fPIC", "-fvisibility=hidden", "-Wall", "-Werror", f"-I{EMULATION}"]
    # The attributes and pragmas are nvcc's. It makes one instruction of a product and a sum.
    common += ["-Wno-attributes", "-Wno-unknown-pragmas", "-ffp-contract=fast", *build.include_flags(folder, metal)]
    if "avx2" in kernels.available_host_isas():
        common.append("-mfma")
    objects = [str(folder / f"{stem}.o") for stem in stems]
    units = [["-x", "c++", str(folder / f"{stem}.cu")] for stem in stems]
    commands = [[*common, *unit, "-c", "-o", o] for unit, o in zip(units, objects, strict=True)]
    for i in range(0, len(commands), 2):
        run_all(commands[i : i + 2])
    library = folder / "libemulated.so"
    own = [str(build.HERE / "launcher.cpp"), str(build.ROOT / "csrc" / "strict" / "fiber.cpp")]
    run_all([[*common, "-shared", "-Wl,-Bsymbolic", *own, *objects, "-o", str(library)]])
    return library


def launcher_of(library: Path) -> Launcher:
    """What runs a library's kernels on numpy arrays."""
    execute = ctypes.CDLL(str(library)).nerf_metal_execute
    size = ctypes.c_size_t

    def run(
        kernel: str,
        arrays: list[np.ndarray],
        params: bytes,
        grid: tuple[int, int, int],
        group: tuple[int, int, int] = (128, 1, 1),
        **order: object,  # of lanes, which strict mode can choose and a GPU cannot
    ) -> None:
        buffers = (ctypes.c_void_p * len(arrays))(*(a.ctypes.data for a in arrays))
        threads, groups = (ctypes.c_uint32 * 3)(*grid), (ctypes.c_uint32 * 3)(*group)
        error = ctypes.create_string_buffer(512)
        what = kernel.encode(), buffers, size(len(arrays)), params, size(len(params))
        if execute(*what, threads, groups, error, size(512)) != 0:
            raise RuntimeError(error.value.decode())

    return run
