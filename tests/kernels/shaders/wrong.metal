// Kernels with one mistake each, which strict mode must report. In the comment over each, what is wrong.
#include "common.h"
#include "params.h"
#include "stage.h"

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
    y[gid] = cell[index];  // mark: unwritten
}

// Two SIMD-groups write the same element.
kernel void wrong_write_write(
    device float* y [[buffer(0)]],  // [n]
    constant CountParams& p [[buffer(1)]],
    uint gid [[thread_position_in_grid]],
    uint index [[thread_index_in_threadgroup]])
{
    SHARED(float, cell, 32);
    cell[index % 32u] = float(index);  // mark: twice
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
    cell[index] = float(index);  // mark: own
    simdgroup_barrier(mem_flags::mem_threadgroup);
    y[gid] = cell[127u - index];  // mark: other
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
        y[gid] = cell[0];  // mark: both read
        if (index == 0u) {
            cell[0] = 2.0f;  // mark: one writes
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
    cell[index + 1u] = 1.0f;  // mark: range
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

// A SIMD-group function between a write and a read: no barrier for memory.
kernel void wrong_sum_as_barrier(
    device float* y [[buffer(0)]],  // [n]
    constant CountParams& p [[buffer(1)]],
    uint gid [[thread_position_in_grid]],
    uint index [[thread_index_in_threadgroup]])
{
    SHARED(float, cell, 128);
    cell[index] = 1.0f;  // mark: before sum
    const float sum = simd_sum(1.0f);
    y[gid] = sum + cell[index / 2u * 2u];  // mark: after sum
}

// Read by half of a SIMD-group, after its barrier by the other half, and written with no barrier since.
kernel void wrong_write_after_sum(
    device float* y [[buffer(0)]],  // [n]
    constant CountParams& p [[buffer(1)]],
    uint gid [[thread_position_in_grid]],
    uint index [[thread_index_in_threadgroup]],
    uint lane [[thread_index_in_simdgroup]])
{
    SHARED(float, cell, 128);
    cell[index] = 1.0f;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    float value = lane < 16u ? float(cell[index - lane]) : 0.0f;
    simdgroup_barrier(mem_flags::mem_threadgroup);
    if (lane >= 16u) {
        value = cell[index - lane];  // mark: read for sum
    }
    const float sum = simd_sum(value);
    if (lane == 16u) {
        cell[index - lane] = sum;  // mark: write of sum
    }
    y[gid] = sum;
}

// Barriers that order no threadgroup memory.
kernel void wrong_barrier_flags(
    device float* y [[buffer(0)]],  // [n]
    constant CountParams& p [[buffer(1)]],
    uint gid [[thread_position_in_grid]],
    uint index [[thread_index_in_threadgroup]])
{
    SHARED(float, cell, 128);
    cell[index] = 1.0f;  // mark: before flags
    simdgroup_barrier(mem_flags::mem_none);
    threadgroup_barrier(mem_flags::mem_device);
    y[gid] = cell[index / 2u * 2u];  // mark: after flags
}

// A place past the end, in a function that was handed a pointer.
kernel void wrong_pointer_range(
    device float* y [[buffer(0)]],  // [n]
    constant CountParams& p [[buffer(1)]],
    uint gid [[thread_position_in_grid]],
    uint index [[thread_index_in_threadgroup]])
{
    SHARED(float, tile, 128);
    tile_stage(tile + 1u, y, 0u, 16u, 0u, 8u, index);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    y[gid] = tile[index];
}

// A SIMD-group function in a loop that some lanes go through more often.
kernel void wrong_loop_of_lanes(
    device float* y [[buffer(0)]],  // [n]
    constant CountParams& p [[buffer(1)]],
    uint gid [[thread_position_in_grid]],
    uint lane [[thread_index_in_simdgroup]])
{
    float value = 1.0f;
    for (uint i = lane; i < 40u; i += SIMD_WIDTH) {
        value = simd_sum(value);  // mark: loop
    }
    y[gid] = value;
}

// Every lane asks for another lane's value.
kernel void wrong_broadcast(
    device float* y [[buffer(0)]],  // [n]
    constant CountParams& p [[buffer(1)]],
    uint gid [[thread_position_in_grid]],
    uint lane [[thread_index_in_simdgroup]])
{
    y[gid] = simd_broadcast(y[gid], ushort(lane));  // mark: own lane
}

// Every lane asks for a value from another distance.
kernel void wrong_shuffle(
    device float* y [[buffer(0)]],  // [n]
    constant CountParams& p [[buffer(1)]],
    uint gid [[thread_position_in_grid]],
    uint lane [[thread_index_in_simdgroup]])
{
    y[gid] = simd_shuffle_down(y[gid], ushort(lane));  // mark: own distance
}
