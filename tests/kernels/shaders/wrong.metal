// Kernels with one mistake each, which strict mode must report. In the comment over each, what is wrong.
#include "common.h"
#include "params.h"

// A SIMD-group function that half of the lanes reach.
kernel void wrong_divergent_if(
    device float* y [[buffer(0)]],  // [n]
    constant CountParams& p [[buffer(1)]],
    uint gid [[thread_position_in_grid]],
    uint lane [[thread_index_in_simdgroup]])
{
    float value = 1.0f;
    if (lane < 16u) {
        value = simd_sum(value);  // mark: divergent
    }
    y[gid] = value;
}

// The same function on two lines, each for half of the lanes.
kernel void wrong_two_branches(
    device float* y [[buffer(0)]],  // [n]
    constant CountParams& p [[buffer(1)]],
    uint gid [[thread_position_in_grid]],
    uint lane [[thread_index_in_simdgroup]])
{
    float value = 1.0f;
    if (lane < 16u) {
        value = simd_sum(value);  // mark: low
    } else {
        value = simd_sum(2.0f * value);  // mark: high
    }
    y[gid] = value;
}

// Threads that leave before a barrier the others wait at.
kernel void wrong_early_return(
    device float* y [[buffer(0)]],  // [n]
    constant CountParams& p [[buffer(1)]],
    uint gid [[thread_position_in_grid]],
    uint index [[thread_index_in_threadgroup]])
{
    if (index >= 100u) {
        return;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);  // mark: barrier
    y[gid] = 1.0f;
}

// One SIMD-group waits at a barrier, another at a SIMD-group function that half of it skips.
kernel void wrong_mixed(
    device float* y [[buffer(0)]],  // [n]
    constant CountParams& p [[buffer(1)]],
    uint gid [[thread_position_in_grid]],
    uint index [[thread_index_in_threadgroup]])
{
    float value = 1.0f;
    if (index >= 48u && index < 64u) {
        value = simd_sum(value);  // mark: inner
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    y[gid] = value;
}

// Memory that nobody has written.
kernel void wrong_unwritten(
    device float* y [[buffer(0)]],  // [n]
    constant CountParams& p [[buffer(1)]],
    uint gid [[thread_position_in_grid]],
    uint index [[thread_index_in_threadgroup]])
{
    SHARED(float, cell, 128);
    if (index < 64u) {
        cell[index] = 1.0f;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    y[gid] = cell[index];
}

// Two SIMD-groups write the same element.
kernel void wrong_write_write(
    device float* y [[buffer(0)]],  // [n]
    constant CountParams& p [[buffer(1)]],
    uint gid [[thread_position_in_grid]],
    uint index [[thread_index_in_threadgroup]])
{
    SHARED(float, cell, 32);
    cell[index % 32u] = float(index);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    y[gid] = cell[0];
}

// A SIMD-group's own barrier where other SIMD-groups read.
kernel void wrong_small_barrier(
    device float* y [[buffer(0)]],  // [n]
    constant CountParams& p [[buffer(1)]],
    uint gid [[thread_position_in_grid]],
    uint index [[thread_index_in_threadgroup]])
{
    SHARED(float, cell, 128);
    cell[index] = float(index);
    simdgroup_barrier(mem_flags::mem_threadgroup);
    y[gid] = cell[127u - index];
}

// Written by one of the threads that have just read it: the other may read too late.
kernel void wrong_read_write(
    device float* y [[buffer(0)]],  // [n]
    constant CountParams& p [[buffer(1)]],
    uint gid [[thread_position_in_grid]],
    uint index [[thread_index_in_threadgroup]])
{
    SHARED(float, cell, 128);
    cell[index] = float(index);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (index == 0u || index == 40u) {
        y[gid] = cell[0];
        if (index == 0u) {
            cell[0] = 2.0f;
        }
    }
}

// One past the end of an array.
kernel void wrong_range(
    device float* y [[buffer(0)]],  // [n]
    constant CountParams& p [[buffer(1)]],
    uint gid [[thread_position_in_grid]],
    uint index [[thread_index_in_threadgroup]])
{
    SHARED(float, cell, 128);
    cell[index + 1u] = 1.0f;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    y[gid] = cell[index];
}

// One element more than a threadgroup may have.
kernel void wrong_memory(
    device float* y [[buffer(0)]],  // [n]
    constant CountParams& p [[buffer(1)]],
    uint gid [[thread_position_in_grid]],
    uint index [[thread_index_in_threadgroup]])
{
    SHARED(float, all, 8192);
    SHARED(float, more, 1);
    all[index] = 1.0f;
    if (index == 0u) {
        more[0] = 1.0f;
    }
    y[gid] = index == 0u ? float(more[0]) : float(all[index]);
}
