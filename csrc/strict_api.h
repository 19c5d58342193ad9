// What a kernel may call while it runs in strict mode; strict.cpp answers. Exported: modules that load_module
// takes find them in the extension.
#pragma once

#define NERF_METAL_EXPORT __attribute__((visibility("default")))

namespace nerf_metal::strict {

enum class Collective : unsigned {
    threadgroup_barrier,
    simdgroup_barrier,
    sum,
    product,
    prefix_exclusive_sum,
    prefix_exclusive_product,
    shuffle_down,
    broadcast,
};

// All lanes of the SIMD-group must arrive at the same collective on the same line of the shader.
NERF_METAL_EXPORT float simd(Collective what, float value, unsigned operand, int line);
NERF_METAL_EXPORT void barrier(Collective what, int line);

// The memory of one element of a threadgroup array, after the checks; key tells the arrays of a kernel apart.
enum class Access { read, write };
NERF_METAL_EXPORT void* shared_cell(int key, const char* name, unsigned long index, unsigned long count,
                                    unsigned long element_bytes, Access access);

}  // namespace nerf_metal::strict
