// Kernels that use SIMD-groups and threadgroups as Metal allows. The tests compare them with numpy, and drop their
// barriers one at a time.
#include "common.h"
#include "params.h"

constexpr constant uint GROUP = 128u;  // threads of every threadgroup here

// Sum of each threadgroup's values by its SIMD-groups; the last threadgroup may be smaller.
// Dispatched threads: n, in groups of GROUP.
// Not handled: n that is no multiple of SIMD_WIDTH.
kernel void right_reduce_f32(
    device const float* x [[buffer(0)]],  // [n]
    device float* sums [[buffer(1)]],     // [n]
    constant CountParams& p [[buffer(2)]],
    uint gid [[thread_position_in_grid]],
    uint group [[threadgroup_position_in_grid]],
    uint index [[thread_index_in_threadgroup]],
    uint lane [[thread_index_in_simdgroup]],
    uint simd [[simdgroup_index_in_threadgroup]])
{
    SHARED(float, partial, 4);
    const float sum = simd_sum(x[gid]);
    if (lane == 0u) {
        partial[simd] = sum;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (index == 0u) {
        const uint left = min(GROUP, p.n - group * GROUP);
        float total = 0.0f;
        for (uint i = 0u; i < left / SIMD_WIDTH; ++i) {
            total += partial[i];
        }
        sums[group] = total;
    }
}

// Sum of each threadgroup's values by halving.
// Dispatched threads: n, in groups of GROUP.
// Not handled: n that is no multiple of GROUP.
kernel void right_tree_f32(
    device const float* x [[buffer(0)]],  // [n]
    device float* sums [[buffer(1)]],     // [n]
    constant CountParams& p [[buffer(2)]],
    uint gid [[thread_position_in_grid]],
    uint group [[threadgroup_position_in_grid]],
    uint index [[thread_index_in_threadgroup]])
{
    SHARED(float, cell, 128);
    cell[index] = x[gid];
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint step = GROUP / 2u; step > 0u; step /= 2u) {
        if (index < step) {
            cell[index] += cell[index + step];
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    if (index == 0u) {
        sums[group] = cell[0];
    }
}

// Rotates each threadgroup's values by operand, twice, through the same memory.
// Dispatched threads: n, in groups of GROUP.
// Not handled: n that is no multiple of GROUP.
kernel void right_rotate_f32(
    device const float* x [[buffer(0)]],  // [n]
    device float* y [[buffer(1)]],        // [n]
    constant LaneParams& p [[buffer(2)]],
    uint gid [[thread_position_in_grid]],
    uint index [[thread_index_in_threadgroup]])
{
    SHARED(float, cell, 128);
    cell[index] = x[gid];
    threadgroup_barrier(mem_flags::mem_threadgroup);
    const float once = cell[(index + p.operand) % GROUP];
    threadgroup_barrier(mem_flags::mem_threadgroup);
    cell[index] = once;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    y[gid] = cell[(index + p.operand) % GROUP];
}

// Swaps neighbours inside a SIMD-group: its own barrier is enough.
// Dispatched threads: n, in groups of GROUP.
// Not handled: n that is no multiple of SIMD_WIDTH.
kernel void right_swap_f32(
    device const float* x [[buffer(0)]],  // [n]
    device float* y [[buffer(1)]],        // [n]
    constant CountParams& p [[buffer(2)]],
    uint gid [[thread_position_in_grid]],
    uint index [[thread_index_in_threadgroup]])
{
    SHARED(float, cell, 128);
    cell[index] = x[gid];
    simdgroup_barrier(mem_flags::mem_threadgroup);
    const uint other = index % 2u == 0u ? index + 1u : index - 1u;
    y[gid] = cell[other];
}

// Every SIMD-group function, one row each.
// Dispatched threads: n, in groups of GROUP.
// Not handled: n that is no multiple of SIMD_WIDTH.
kernel void right_simd_f32(
    device const float* x [[buffer(0)]],  // [n]
    device float* y [[buffer(1)]],        // [6, n]
    constant LaneParams& p [[buffer(2)]],
    uint gid [[thread_position_in_grid]],
    uint lane [[thread_index_in_simdgroup]])
{
    const float value = x[gid];
    y[gid] = simd_sum(value);
    y[p.n + gid] = simd_product(value);
    y[2u * p.n + gid] = simd_prefix_exclusive_sum(value);
    y[3u * p.n + gid] = simd_prefix_exclusive_product(value);
    y[4u * p.n + gid] = simd_shuffle_down(value, ushort(p.operand));
    y[5u * p.n + gid] = simd_broadcast(value, ushort(p.operand));
    y[gid] += lane == SIMD_WIDTH ? 1.0f : 0.0f;  // no lane has this number
}

// Every attribute of a thread, twelve values each.
// Dispatched threads: nx x ny x nz.
// Not handled: nx that is no multiple of SIMD_WIDTH.
kernel void right_places_u32(
    device int* out [[buffer(0)]],  // [nx * ny * nz, 12]
    constant SpaceParams& p [[buffer(1)]],
    uint3 gid [[thread_position_in_grid]],
    uint3 group [[threadgroup_position_in_grid]],
    uint3 local [[thread_position_in_threadgroup]],
    uint index [[thread_index_in_threadgroup]],
    uint lane [[thread_index_in_simdgroup]],
    uint simd [[simdgroup_index_in_threadgroup]])
{
    device int* row = out + 12u * ((gid.z * p.ny + gid.y) * p.nx + gid.x);
    row[0] = int(gid.x);
    row[1] = int(gid.y);
    row[2] = int(gid.z);
    row[3] = int(group.x);
    row[4] = int(group.y);
    row[5] = int(group.z);
    row[6] = int(local.x);
    row[7] = int(local.y);
    row[8] = int(local.z);
    row[9] = int(index);
    row[10] = int(lane);
    row[11] = int(simd);
}

// All the threadgroup memory there is.
// Dispatched threads: n, in groups of GROUP.
// Not handled: n that is no multiple of SIMD_WIDTH.
kernel void right_memory_f32(
    device float* y [[buffer(0)]],  // [n]
    constant CountParams& p [[buffer(1)]],
    uint gid [[thread_position_in_grid]],
    uint lane [[thread_index_in_simdgroup]])
{
    SHARED(float, all, 8192);
    all[gid * 64u] = float(lane);
    y[gid] = all[gid * 64u];
}
