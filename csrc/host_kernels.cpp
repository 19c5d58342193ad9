// The shaders as host code. Compiled once for each processor level and once in the strict reading:
// NERF_METAL_LEVEL names the table, NERF_METAL_STRICT chooses the reading.
#include "host_kernel.h"
#include "strict_api.h"

namespace {

#include "msl.h"
#include "shaders.inc"

using nerf_metal::HostKernel;
using nerf_metal::ThreadIds;

#include "host_kernels.inc"

}  // namespace

#define NERF_METAL_JOIN(a, b) a##b
#define NERF_METAL_TABLE(level) NERF_METAL_JOIN(nerf_metal_host_kernels_, level)

extern "C" const nerf_metal::HostKernelTable NERF_METAL_TABLE(NERF_METAL_LEVEL) = {
    kHostKernels, sizeof(kHostKernels) / sizeof(kHostKernels[0])};
