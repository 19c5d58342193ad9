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
    matrix_fill,
    matrix_load,
    matrix_store,
    matrix_multiply,
    matrix_multiply_accumulate,
};

// All lanes of the SIMD-group must arrive at the same collective on the same line of the shader.
NERF_METAL_EXPORT float simd(Collective what, float value, unsigned operand, int line);
// Without threadgroup_memory, of mem_flags, a barrier holds the lanes up but orders none of their accesses.
NERF_METAL_EXPORT void barrier(Collective what, bool threadgroup_memory, int line);

// A SIMD-group's 8x8 matrix: each lane holds two elements. Metal does not say which, and no shader can see it
// here: lane l has 2 l and 2 l + 1, row after row. Fills, loads and stores must have the same arguments in every
// lane.
struct MatrixArguments {
    unsigned long memory;  // a device address, the key of a threadgroup array, or the bits to fill with
    unsigned long first, elements_per_row, origin_x, origin_y, transpose;
};
// Returns the lane.
NERF_METAL_EXPORT unsigned matrix(Collective what, const MatrixArguments& arguments, int line);
// d = a b + c: two elements of each.
NERF_METAL_EXPORT void matrix_multiply(Collective what, const float* a, const float* b, const float* c, float* d,
                                       int line);

// An array of threadgroup memory; key tells the arrays of a kernel apart.
struct SharedArray {
    int key;
    const char* name;
    unsigned long count, element_bytes;
};
enum class Access { read, write, matrix_read, matrix_write };
// The memory of one element, after the checks.
NERF_METAL_EXPORT void* shared_cell(const SharedArray& array, unsigned long index, Access access, int line);

}  // namespace nerf_metal::strict
