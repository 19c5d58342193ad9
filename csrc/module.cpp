// The module of the shaders this was built from. NERF_METAL_LEVELS lists the host levels: X(baseline) X(avx2) ...
#include "module.h"

#include <cstddef>

using uint = unsigned int;
#include "params.h"

#include "kernel_table.inc"

#define X(level) extern "C" const nerf_metal::HostKernelTable nerf_metal_host_kernels_##level;
NERF_METAL_LEVELS
#undef X
extern "C" const nerf_metal::HostKernelTable nerf_metal_host_kernels_strict;

namespace {
const nerf_metal::LevelInfo levels[] = {
#define X(level) {#level, &nerf_metal_host_kernels_##level},
    NERF_METAL_LEVELS
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
    levels,
    sizeof(levels) / sizeof(levels[0]),
    &nerf_metal_host_kernels_strict,
};
