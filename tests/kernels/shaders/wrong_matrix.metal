// Kernels with one mistake each in what they do with matrices. In the comment over each, what is wrong.
#include "common.h"
#include "params.h"

// A matrix that half of a SIMD-group loads.
kernel void wrong_matrix_divergent(
    device float* y [[buffer(0)]],  // [n]
    constant CountParams& p [[buffer(1)]],
    uint gid [[thread_position_in_grid]],
    uint index [[thread_index_in_threadgroup]])
{
    simdgroup_float8x8 m = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
    if (index < 48u) {
        simdgroup_load(m, y, 8u);  // mark: half loads
    }
    simdgroup_store(m, y, 8u);  // mark: all store
    y[gid] = 1.0f;
}

// A tile that one SIMD-group writes and another loads, with its own barrier alone.
kernel void wrong_matrix_race(
    device float* y [[buffer(0)]],  // [n]
    constant CountParams& p [[buffer(1)]],
    uint gid [[thread_position_in_grid]],
    uint index [[thread_index_in_threadgroup]])
{
    SHARED(float, tile, 128);
    tile[index] = 1.0f;  // mark: write for others
    simdgroup_barrier(mem_flags::mem_threadgroup);
    simdgroup_float8x8 m;
    simdgroup_load(m, tile + 64u * (1u - gid / 64u), 8u);  // mark: load of others
    simdgroup_store(m, y, 8u);
}

// A tile that a SIMD-group loads right after its own threads have written it.
kernel void wrong_matrix_no_barrier(
    device float* y [[buffer(0)]],  // [n]
    constant CountParams& p [[buffer(1)]],
    uint gid [[thread_position_in_grid]],
    uint index [[thread_index_in_threadgroup]])
{
    SHARED(float, tile, 256);
    const uint first = index / SIMD_WIDTH * 64u;
    tile[first + index % SIMD_WIDTH * 2u] = 1.0f;  // mark: write for own
    tile[first + index % SIMD_WIDTH * 2u + 1u] = 1.0f;
    simdgroup_float8x8 m;
    simdgroup_load(m, tile + first, 8u);  // mark: load of own
    simdgroup_store(m, y, 8u);
    y[gid] = 1.0f;
}

// A stored matrix that the SIMD-group's threads read at once.
kernel void wrong_matrix_read(
    device float* y [[buffer(0)]],  // [n]
    constant CountParams& p [[buffer(1)]],
    uint gid [[thread_position_in_grid]],
    uint index [[thread_index_in_threadgroup]])
{
    SHARED(float, tile, 256);
    const uint first = index / SIMD_WIDTH * 64u;
    simdgroup_store(make_filled_simdgroup_matrix<float, 8, 8>(1.0f), tile + first, 8u);  // mark: store
    y[gid] = tile[first + index % SIMD_WIDTH * 2u];  // mark: read of stored
}

// Two SIMD-groups that store one tile.
kernel void wrong_matrix_store(
    device float* y [[buffer(0)]],  // [n]
    constant CountParams& p [[buffer(1)]],
    uint gid [[thread_position_in_grid]],
    uint index [[thread_index_in_threadgroup]])
{
    SHARED(float, tile, 64);
    simdgroup_store(make_filled_simdgroup_matrix<float, 8, 8>(1.0f), tile, 8u);  // mark: store of all
    threadgroup_barrier(mem_flags::mem_threadgroup);
    y[gid] = tile[index % 64u];
}

// Rows that overlap: elements stored twice.
kernel void wrong_matrix_overlap(
    device float* y [[buffer(0)]],  // [n]
    constant CountParams& p [[buffer(1)]],
    uint gid [[thread_position_in_grid]],
    uint index [[thread_index_in_threadgroup]])
{
    SHARED(float, tile, 256);
    const uint first = index / SIMD_WIDTH * 64u;
    simdgroup_store(make_filled_simdgroup_matrix<float, 8, 8>(1.0f), tile + first, 4u);  // mark: overlap
    threadgroup_barrier(mem_flags::mem_threadgroup);
    y[gid] = tile[first];
}

// A matrix past the end of its array.
kernel void wrong_matrix_range(
    device float* y [[buffer(0)]],  // [n]
    constant CountParams& p [[buffer(1)]],
    uint gid [[thread_position_in_grid]],
    uint index [[thread_index_in_threadgroup]])
{
    SHARED(float, tile, 128);
    tile[index] = 1.0f;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    simdgroup_float8x8 m;
    simdgroup_load(m, tile + 64u, 9u);  // mark: past the end
    simdgroup_store(m, y, 8u);
    y[gid] = 1.0f;
}

// A matrix of memory that nobody has written.
kernel void wrong_matrix_unwritten(
    device float* y [[buffer(0)]],  // [n]
    constant CountParams& p [[buffer(1)]],
    uint gid [[thread_position_in_grid]],
    uint index [[thread_index_in_threadgroup]])
{
    SHARED(float, tile, 128);
    if (index != 77u) {
        tile[index] = 1.0f;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    simdgroup_float8x8 m;
    simdgroup_load(m, tile + 64u, 8u);  // mark: hole
    simdgroup_store(m, y, 8u);
    y[gid] = 1.0f;
}

// Every thread loads from a place of its own.
kernel void wrong_matrix_arguments(
    device float* y [[buffer(0)]],  // [n]
    constant CountParams& p [[buffer(1)]],
    uint gid [[thread_position_in_grid]],
    uint index [[thread_index_in_threadgroup]])
{
    simdgroup_float8x8 m;
    simdgroup_load(m, y + index % SIMD_WIDTH, 8u);  // mark: own place
    simdgroup_store(m, y, 8u);
    y[gid] = 1.0f;
}

// An origin, of which Metal does not say whether it is transposed too.
kernel void wrong_matrix_origin(
    device float* y [[buffer(0)]],  // [n]
    constant CountParams& p [[buffer(1)]],
    uint gid [[thread_position_in_grid]],
    uint index [[thread_index_in_threadgroup]])
{
    simdgroup_float8x8 m;
    simdgroup_load(m, y, 8u, ulong2(8u, 0u), true);  // mark: origin
    simdgroup_store(m, y, 8u);
    y[gid] = 1.0f;
}
