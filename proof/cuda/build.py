"""The shaders as CUDA: for each file its kernels, a way to start each, and a table of those; by nvcc, or emulated."""

from __future__ import annotations

import platform
import re
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from nerf_metal import kernels
from nerf_metal.kernels import signature
from tests.kernels.libraries import compiler, generator, run_all

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
METAL = ROOT / "metal"
# Results and inputs below the least normal float become 0, as Apple's GPUs may have it.
FLAGS = ["-std=c++17", "-O3", "-ftz=true", "-Xptxas=-v", "-Xcompiler=-fPIC,-fvisibility=hidden"]
# But for a comparison (186) with a constant that is 0 on Metal, not on the host.
FLAGS += ["-Werror=all-warnings", "-Xcompiler=-Wall,-Werror", "-diag-suppress=186"]
ARCH = "sm_90"
# What ptxas says of a kernel: bytes of stack and spills are a thread's, shared ones a threadgroup's.
_ENTRY = re.compile(
    r"Compiling entry function '(?P<name>\w+)_grid'.*?(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill "
    r"stores, (?P<loads>\d+) bytes spill loads.*?Used (?P<registers>\d+) registers"
    r"(?:[^\n]*?(?P<shared>\d+) bytes smem)?",
    re.S,
)


class CompileError(Exception):
    """nvcc refused something; the text is what it printed."""


def usages(text: str) -> dict[str, tuple[int, int, int]]:
    """What ``-Xptxas=-v`` printed: by kernel its registers, bytes of a thread's stack and spills, shared bytes."""
    found = {}
    for entry in _ENTRY.finditer(text):
        stack = sum(int(entry[name]) for name in ("stack", "stores", "loads"))
        found[entry["name"]] = (int(entry["registers"]), stack, int(entry["shared"] or 0))
    return found


def kernels_of(metal: Path) -> dict[str, tuple[signature.Kernel, ...]]:
    """The kernels of each shader file, by its stem."""
    return {
        path.stem: signature.parse_kernels(path.stem, path.read_text(encoding="utf-8"))
        for path in sorted(metal.glob("*.metal"))
    }


def entry(kernel: signature.Kernel) -> str:
    """A ``__global__`` function around a kernel, and the C function that starts it.

    ``buffers`` are addresses in the GPU's memory, in the kernel's order; ``params`` the argument struct; ``grid`` and
    ``group`` three numbers of threads each.
    """
    types = [f"{'' if b.writable else 'const '}{b.written}*" for b in kernel.buffers]
    names = [f"a{i}" for i in range(len(types))]
    parameters = ", ".join(f"{t} {n}" for t, n in zip(types, names, strict=True))
    given = ", ".join([*names, "p", *(generator().thread_id(b) for b in kernel.builtins)])
    arguments = ", ".join(f"static_cast<{t}>(buffers[{i}])" for i, t in enumerate(types))
    return f"""
extern "C" __global__ void {kernel.name}_grid({parameters}, const __grid_constant__ {kernel.params} p, const dim3 grid)
{{
    const ThreadAttributes ids = thread_attributes(grid);
    if (ids.inside) {{
        {kernel.function}({given});
    }}
}}
extern "C" int nerf_cuda_{kernel.name}(
    void* const* buffers, const void* params, const uint32_t* grid, const uint32_t* group)
{{
    return launch({kernel.name}_grid, grid, group, {arguments}, *static_cast<const {kernel.params}*>(params));
}}
"""


def write(metal: Path, folder: Path) -> list[str]:
    """Everything that is compiled, into ``folder``; the stems of the .cu files."""
    generator().main(metal, folder)
    by_file = kernels_of(metal)
    for stem, found in by_file.items():
        text = f'#include "msl_cuda.h"\nnamespace nerf_metal_cuda {{\n#include "{stem}.metal"\n'
        text += "".join(map(entry, found)) + "}  // namespace nerf_metal_cuda\n"
        (folder / f"{stem}.cu").write_text(text, encoding="utf-8")
    names = [f"nerf_cuda_{kernel.name}" for found in by_file.values() for kernel in found]
    # In the order of the build's own table, kKernels of kernel_table.inc.
    text = "".join(f'extern "C" int {n}(void* const*, const void*, const uint32_t*, const uint32_t*);\n' for n in names)
    text += "const Entry kEntries[] = {" + ", ".join(f"&{name}" for name in names) + "};\n"
    (folder / "entries.inc").write_text(text, encoding="utf-8")
    return list(by_file)


def include_flags(folder: Path, metal: Path) -> list[str]:
    """Where the files generated in ``folder`` find what they include."""
    return [f"-I{path}" for path in (HERE / "include", ROOT / "csrc", metal, folder)]


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise CompileError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def compile_shaders(
    nvcc: str, folder: Path, arch: str = ARCH, metal: Path = METAL
) -> tuple[Path, dict[str, tuple[int, int, int]]]:
    """The library that the double of Metal calls, in ``folder``; and what ptxas says of each kernel.

    Raises:
        CompileError: with nvcc's own words, or where ptxas does not say what is read here of every kernel.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stems = write(metal, folder)
    common = [nvcc, *FLAGS, f"-arch={arch}", *include_flags(folder, metal)]
    units = [[*common, "-c", str(folder / f"{stem}.cu"), "-o", str(folder / f"{stem}.o")] for stem in stems]
    with ThreadPoolExecutor(2) as pool:
        found = usages("\n".join(pool.map(_run, units)))
    named = {kernel.name for of_file in kernels_of(metal).values() for kernel in of_file}
    if missing := sorted(named - set(found)):
        raise CompileError(f"ptxas must say registers, stack and spills of every kernel, got none of {missing}")
    library = folder / "libnerf_metal_cuda.so"
    objects = [str(folder / f"{stem}.o") for stem in stems]
    _run([*common, "-shared", *objects, str(HERE / "launcher.cpp"), "-o", str(library)])
    return library, found


def build_emulation(folder: Path, metal: Path = METAL) -> Path:
    """The same files, compiled by g++ against ``emulation/``: a library that needs neither nvcc nor a GPU.

    Raises:
        RuntimeError: on a processor that it cannot be built for, or with the compiler's words.
    """
    if platform.machine() not in ("x86_64", "AMD64"):
        raise RuntimeError(f"the emulation flushes denormals by x86-64's register, this is {platform.machine()}")
    folder.mkdir(parents=True, exist_ok=True)
    common = [compiler(), "-std=c++17", "-O2", "-fPIC", "-fvisibility=hidden", "-Wall", "-Werror"]
    # The attributes and pragmas are nvcc's. It makes one instruction of a product and a sum.
    common += ["-Wno-attributes", "-Wno-unknown-pragmas", "-ffp-contract=fast", f"-I{HERE / 'emulation'}"]
    common += include_flags(folder, metal) + ["-mfma"] * ("avx2" in kernels.available_host_isas())
    stems = write(metal, folder)
    commands = [[*common, "-x", "c++", str(folder / f"{s}.cu"), "-c", "-o", str(folder / f"{s}.o")] for s in stems]
    for i in range(0, len(commands), 2):
        run_all(commands[i : i + 2])
    library = folder / "libemulated.so"
    objects = [str(folder / f"{stem}.o") for stem in stems]
    sources = [str(HERE / "launcher.cpp"), str(ROOT / "csrc" / "strict" / "fiber.cpp")]
    run_all([[*common, "-shared", "-Wl,-Bsymbolic", *sources, *objects, "-o", str(library)]])
    return library
