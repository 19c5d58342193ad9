"""Turn the shaders into what the extension is compiled from.

``python generate.py METAL_DIR OUT_DIR`` writes

- ``kernel_table.inc``: what the launcher knows of each kernel, the argument structs, the shader texts;
- ``kernels_NAME.cpp`` for each shader file: its kernels for the host, each a loop over its grid or one thread of it.
  The build compiles it once for each instruction set, and once in the strict reading.

The shaders are the only place where a kernel is described; this file holds no kernel's name.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "nerf_metal" / "kernels"))

import signature  # type: ignore[import-not-found]  # through the path above: the package is not built yet

PARAMS_HEADER = "params.h"
# Attribute -> member of ThreadIds in csrc/host/host_kernel.h.
SCALAR_IDS = {
    "thread_index_in_threadgroup": "index_in_group",
    "thread_index_in_simdgroup": "lane",
    "simdgroup_index_in_threadgroup": "simdgroup",
}
VECTOR_IDS = {
    "thread_position_in_grid": "position_in_grid",
    "threadgroup_position_in_grid": "group_position_in_grid",
    "thread_position_in_threadgroup": "position_in_group",
}


def elements_expression(buffer: signature.Buffer) -> str:
    """A buffer's element count as C++ over doubles, which neither wrap nor overflow at these sizes."""
    product = " * ".join(f"({part})" for part in buffer.shape)
    return re.sub(r"\b([a-z_]\w*)\b", r"double(p.\1)", product)


def axes(kernel: signature.Kernel) -> int:
    """Axes of the grid that the kernel's threads look at."""
    return max((b.components for b in kernel.builtins if b.attribute in VECTOR_IDS), default=1)


def table(by_shader: dict[str, tuple[signature.Kernel, ...]], structs: dict[str, tuple[tuple[str, str], ...]]) -> str:
    """The launcher's table as C++ initialisers."""
    kernels = [kernel for found in by_shader.values() for kernel in found]
    out = ["// Made by cmake/generate.py from the shaders.", "namespace nerf_metal {", "namespace {"]
    for name, members in structs.items():
        out.append(f'static_assert(sizeof({name}) == {4 * len(members)}, "{name}");')
        out += [f'static_assert(offsetof({name}, {m}) == {4 * i}, "{m}");' for i, (m, _) in enumerate(members)]
        initialisers = ", ".join(f'{{"{m}", "{t}"}}' for m, t in members)
        out.append(f"constexpr MemberInfo members_{name}[] = {{{initialisers}}};")
    for kernel in kernels:
        rows = [f'    {{"{b.name}", DType::{b.dtype}_, {str(b.writable).lower()}}},' for b in kernel.buffers]
        out += [f"constexpr BufferInfo buffers_{kernel.name}[] = {{", *rows, "};"]
        out.append(f"void elements_{kernel.name}(const void* params, double* n) {{")
        out.append(f"    const auto& p = *static_cast<const {kernel.params}*>(params);")
        out += [f"    n[{b.index}] = {elements_expression(b)};" for b in kernel.buffers]
        out += ["    (void)p;", "}"]
    out += ["}  // namespace", "const StructInfo kStructs[] = {"]
    out += [f'    {{"{n}", members_{n}, {len(m)}, sizeof({n})}},' for n, m in structs.items()]
    out += ["};", f"const size_t kStructCount = {len(structs)};", "const KernelInfo kKernels[] = {"]
    for shader, found in enumerate(by_shader.values()):
        for place, k in enumerate(found):
            params = f"&kStructs[{list(structs).index(k.params)}]"
            out.append(
                f'    {{"{k.name}", "{k.library}", {shader}, {place}, buffers_{k.name}, {len(k.buffers)}, {params},'
                f" {str(k.collective).lower()}, {axes(k)}, &elements_{k.name}}},"
            )
    out += ["};", f"const size_t kKernelCount = {len(kernels)};", "}  // namespace nerf_metal"]
    # For csrc/launcher/module.cpp: every shader file, with what is asked of it.
    out.append(f"#define NERF_METAL_SHADERS(F, isa) {' '.join(f'F(isa, {name})' for name in by_shader)}")
    return "\n".join(out) + "\n"


def sources_table(sources: dict[str, str]) -> str:
    """The shader texts as raw strings: Metal compiles them on the user's machine."""
    out = ["namespace nerf_metal {", "const SourceInfo kSources[] = {"]
    for name, text in sources.items():
        # Compilers limit one literal to 64 KB: pieces of 8 000 characters are joined by adjacency.
        pieces = [text[i : i + 8000] for i in range(0, len(text), 8000)]
        out.append(f'    {{"{name}", ' + "\n".join(f'R"NERF_METAL({piece})NERF_METAL"' for piece in pieces) + "},")
    out += ["};", f"const size_t kSourceCount = {len(sources)};", "}  // namespace nerf_metal"]
    return "\n".join(out) + "\n"


def thread_id(builtin: signature.Builtin) -> str:
    """A thread attribute out of ThreadIds (csrc/host/host_kernel.h)."""
    if builtin.attribute in SCALAR_IDS:
        return f"ids.{SCALAR_IDS[builtin.attribute]}"
    member = f"ids.{VECTOR_IDS[builtin.attribute]}"
    if builtin.components == 1:
        return f"{member}.x"
    return f"uint{builtin.components}({', '.join(f'{member}.{c}' for c in 'xyz'[: builtin.components])})"


def host_kernel(kernel: signature.Kernel) -> list[str]:
    """One thread of a kernel for strict mode, else a loop over threads where it has no collectives."""
    arguments = [
        f"static_cast<{'' if b.writable else 'const '}{b.written}*>(buffers[{b.index}])" for b in kernel.buffers
    ]
    # A copy whose address goes nowhere else: stores through the buffers cannot change it, so loops vectorise.
    params = f"    const {kernel.params} p = *static_cast<const {kernel.params}*>(params);"
    unpack = [f"    auto* a{i} = {a};" for i, a in enumerate(arguments)]
    names = [f"a{i}" for i in range(len(arguments))] + ["p"]
    builtins = [thread_id(b) for b in kernel.builtins]
    out = [
        "#if NERF_METAL_STRICT",
        f"void thread_{kernel.name}(void* const* buffers, const void* params, const ThreadIds& ids)",
        "{",
        params,
        *unpack,
        f"    {kernel.function}({', '.join(names + builtins)});",
        "}",
    ]
    if kernel.collective:
        return [*out, "#endif"]
    first, *others = kernel.builtins
    if first.attribute != "thread_position_in_grid" or any(b.attribute not in signature.LANES for b in others):
        raise ValueError(f"[{kernel.name}] a plain kernel must take thread_position_in_grid alone")
    position = {1: "uint(i)", 2: "uint2(x, y)", 3: "uint3(x, y, z)"}[first.components]
    out += [
        "#else",
        # Everything inline, as on a GPU: constants are loaded once for all threads of the range.
        "__attribute__((flatten))",
        f"void range_{kernel.name}(void* const* buffers, const void* params, const uint* grid, "
        "unsigned long begin, unsigned long end)",
        "{",
        params,
        *unpack,
    ]
    lanes = ["0u"] * len(others)  # not looked at
    call = f"{kernel.function}({', '.join([*names, position, *lanes])});"
    if first.components == 1:
        out += ["    (void)grid;", "    for (unsigned long i = begin; i < end; ++i) {", f"        {call}", "    }"]
    else:
        out += [
            "    uint x = uint(begin % grid[0]);",
            "    uint y = uint(begin / grid[0] % grid[1]);",
            "    uint z = uint(begin / grid[0] / grid[1]);",
            "    (void)z;",
            "    for (unsigned long i = begin; i < end; ++i) {",
            f"        {call}",
            "        if (++x == grid[0]) {",
            "            x = 0;",
            "            if (++y == grid[1]) {",
            "                y = 0;",
            "                ++z;",
            "            }",
            "        }",
            "    }",
        ]
    return [*out, "}", "#endif"]


def host_unit(stem: str, kernels: tuple[signature.Kernel, ...]) -> str:
    """One shader file as a C++ file. The build says NERF_METAL_ISA, and NERF_METAL_STRICT for the strict reading."""
    out = [
        f"// Made by cmake/generate.py from {stem}.metal.",
        '#include "host/host_kernel.h"',
        '#include "strict/strict_api.h"',
        "namespace {",
        '#include "host/msl.h"',
        f'#include "{stem}.metal"',
        "using nerf_metal::HostKernel;",
        "using nerf_metal::ThreadIds;",
        *(line for kernel in kernels for line in host_kernel(kernel)),
        "const HostKernel kernels[] = {",
    ]
    for kernel in kernels:
        plain = "nullptr" if kernel.collective else f"&range_{kernel.name}"
        out += [
            "#if NERF_METAL_STRICT",
            f'    {{"{kernel.name}", nullptr, &thread_{kernel.name}}},',
            "#else",
            f'    {{"{kernel.name}", {plain}, nullptr}},',
            "#endif",
        ]
    out += [
        "};",
        "}  // namespace",
        f'extern "C" const nerf_metal::HostKernelTable NERF_METAL_TABLE(NERF_METAL_ISA, {stem}) = {{',
        "    kernels, sizeof(kernels) / sizeof(kernels[0])};",
    ]
    return "\n".join(out) + "\n"


def unit_name(stem: str) -> str:
    """The C++ file of a shader file."""
    return f"kernels_{stem}.cpp"


def main(metal: Path, out: Path) -> None:
    """Write the generated files, each only when its text changed, so that a build stays incremental."""
    sources = signature.read_sources(metal)
    structs = signature.parse_structs(sources[PARAMS_HEADER])
    by_shader: dict[str, tuple[signature.Kernel, ...]] = {}
    for name, text in sources.items():
        signature.inline_includes(name, sources)
        if name.endswith(".metal"):
            by_shader[Path(name).stem] = signature.parse_kernels(Path(name).stem, text)
    for kernel in (k for found in by_shader.values() for k in found):
        if kernel.params not in structs:
            raise ValueError(f"[{kernel.name}] argument struct {kernel.params} must stand in {PARAMS_HEADER}")
    files = {"kernel_table.inc": table(by_shader, structs) + sources_table(sources)}
    files |= {unit_name(stem): host_unit(stem, found) for stem, found in by_shader.items()}
    out.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        path = out / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
