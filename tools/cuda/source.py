"""The shaders as CUDA: for each file its kernels, a way to start each of them, and the table of those."""

from __future__ import annotations

from pathlib import Path

from nerf_metal.kernels import signature
from tests.kernels.libraries import generator


def kernels(metal: Path) -> dict[str, tuple[signature.Kernel, ...]]:
    """The kernels of each shader file, by its stem."""
    return {
        path.stem: signature.parse_kernels(path.stem, path.read_text(encoding="utf-8"))
        for path in sorted(metal.glob("*.metal"))
    }


def entry_name(kernel: signature.Kernel) -> str:
    """The C function that starts a kernel."""
    return f"nerf_cuda_{kernel.name}"


def entry(kernel: signature.Kernel) -> list[str]:
    """A ``__global__`` function around a kernel, and the C function that starts it.

    ``buffers`` are addresses in the GPU's memory, in the kernel's order; ``params`` the argument struct; ``grid`` and
    ``group`` three numbers of threads each.
    """
    types = [f"{'' if b.writable else 'const '}{b.written}*" for b in kernel.buffers]
    names = [f"a{i}" for i in range(len(types))]
    parameters = [f"{t} {n}" for t, n in zip(types, names, strict=True)]
    builtins = [generator().thread_id(b) for b in kernel.builtins]
    arguments = [f"static_cast<{t}>(buffers[{i}])" for i, t in enumerate(types)]
    return [
        f'extern "C" __global__ void {kernel.name}_grid({", ".join(parameters)},',
        f"    const __grid_constant__ {kernel.params} p, const dim3 grid)",
        "{",
        "    const ThreadAttributes ids = thread_attributes(grid);",
        "    if (ids.inside) {",
        f"        {kernel.function}({', '.join([*names, 'p', *builtins])});",
        "    }",
        "}",
        f'extern "C" int {entry_name(kernel)}(void* const* buffers, const void* params, const uint32_t* grid,',
        "    const uint32_t* group)",
        "{",
        f"    return launch({kernel.name}_grid, grid, group, {', '.join(arguments)},",
        f"        *static_cast<const {kernel.params}*>(params));",
        "}",
    ]


def unit(stem: str, found: tuple[signature.Kernel, ...]) -> str:
    """One shader file as a .cu file."""
    out = ['#include "msl_cuda.h"', "namespace nerf_metal_cuda {", f'#include "{stem}.metal"']
    for kernel in found:
        out += entry(kernel)
    return "\n".join([*out, "}  // namespace nerf_metal_cuda"]) + "\n"


def entries(found: list[signature.Kernel]) -> str:
    """The C functions as a table in the order of the build's own (``kKernels`` of kernel_table.inc)."""
    out = ['extern "C" {']
    out += [f"int {entry_name(k)}(void* const*, const void*, const uint32_t*, const uint32_t*);" for k in found]
    return "\n".join([*out, "}", "const Entry kEntries[] = {", *(f"    &{entry_name(k)}," for k in found), "};"]) + "\n"


def write(metal: Path, folder: Path) -> list[str]:
    """Everything that is compiled, into ``folder``; the stems of the .cu files."""
    generator().main(metal, folder)
    by_file = kernels(metal)
    for stem, found in by_file.items():
        (folder / f"{stem}.cu").write_text(unit(stem, found), encoding="utf-8")
    everything = [kernel for found in by_file.values() for kernel in found]
    (folder / "entries.inc").write_text(entries(everything), encoding="utf-8")
    return list(by_file)
