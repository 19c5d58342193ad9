// The module of the shaders this was built from. NERF_METAL_ISAS lists the instruction sets of the host kernels:
// X(baseline) X(avx2) ... The build's NERF_METAL_SHADERS(F, isa) lists the shader files: F(isa, adam) ...
#include "launcher/module.h"

#include <cstddef>

using uint = unsigned int;
#include "params.h"

#include "kernel_table.inc"

#define DECLARED(isa, shader) extern "C" const nerf_metal::HostKernelTable NERF_METAL_TABLE(isa, shader);
#define X(isa) NERF_METAL_SHADERS(DECLARED, isa)
NERF_METAL_ISAS
X(strict)
#undef X

namespace {
#define ADDRESS(isa, shader) &NERF_METAL_TABLE(isa, shader),
#define X(isa) const nerf_metal::HostKernelTable* const shaders_##isa[] = {NERF_METAL_SHADERS(ADDRESS, isa)};
NERF_METAL_ISAS
#undef X
const nerf_metal::HostKernelTable* const strict_shaders[] = {NERF_METAL_SHADERS(ADDRESS, strict)};

const nerf_metal::IsaInfo isas[] = {
#define X(isa) {#isa, shaders_##isa},
    NERF_METAL_ISAS
#undef X
};
}  // namespace

const nerf_metal::Module nerf_metal_module = {
    nerf_metal::kKernels,
    nerf_metal::kKernelCount,
    nerf_metal::kStructs,
    nerf_metal::kStructCount,
    nerf_metal::kSources,
    nerf_metal::kSourceCount,
    isas,
    sizeof(isas) / sizeof(isas[0]),
    strict_shaders,
};
