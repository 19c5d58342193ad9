// Kernels that use SIMD-groups and threadgroups as Metal allows. The tests compare them with numpy, and drop their
// barriers one at a time.
#include "common.h"
#include "params.h"
#include "stage.h"

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

// c += a b^T: 16x16 elements of c by a threadgroup, 8x8 by each of its four SIMD-groups, 8 columns of a and b in turn.
// Dispatched threads: GROUP for each 16x16 elements of c, those at the edges included; in groups of GROUP.
// Not handled: m, n or k that is no multiple of 8.
kernel void right_product_f32(
    device const float* a [[buffer(0)]],  // [m, k]
    device const float* b [[buffer(1)]],  // [n, k]
    device float* c [[buffer(2)]],        // [m, n]
    constant ProductParams& p [[buffer(3)]],
    uint group [[threadgroup_position_in_grid]],
    uint index [[thread_index_in_threadgroup]],
    uint lane [[thread_index_in_simdgroup]],
    uint simd [[simdgroup_index_in_threadgroup]])
{
    SHARED(float, left, 128);
    SHARED(float, right, 128);
    SHARED(float, out, 256);
    const uint across = (p.n + 15u) / 16u;
    const uint first_row = group / across * 16u;
    const uint first_column = group % across * 16u;
    const uint row = first_row + simd / 2u * 8u;
    const uint column = first_column + simd % 2u * 8u;
    const bool inside = row < p.m && column < p.n;  // the same for all of a SIMD-group
    simdgroup_float8x8 sum = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
    if (inside) {
        simdgroup_load(sum, c + row * p.n + column, p.n);
    }
    for (uint k = 0u; k < p.k; k += 8u) {
        tile_stage(left, a, first_row, p.m, k, p.k, index);
        tile_stage(right, b, first_column, p.n, k, p.k, index);
        threadgroup_barrier(mem_flags::mem_threadgroup);
        tile_multiply(sum, left + simd / 2u * 64u, right + simd % 2u * 64u);
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    SHARED_POINTER(float) mine = out;
    mine += simd * 64u;
    simdgroup_store(sum, mine, 8u);
    simdgroup_barrier(mem_flags::mem_threadgroup);
    if (inside) {
        for (uint i = lane; i < 64u; i += SIMD_WIDTH) {
            c[(row + i / 8u) * p.n + column + i % 8u] = mine[i];
        }
    }
}

// Every matrix function, 64 values each.
// Dispatched threads: SIMD_WIDTH, in one group.
// Not handled: n other than 64.
kernel void right_matrix_f32(
    device const float* a [[buffer(0)]],  // [n]
    device const half* b [[buffer(1)]],   // [n]
    device float* y [[buffer(2)]],        // [8, n]
    device half* z [[buffer(3)]],         // [n]
    constant LaneParams& p [[buffer(4)]],
    uint lane [[thread_index_in_simdgroup]])
{
    SHARED(float, wide, 96);  // 8 rows of 12
    SHARED(half, narrow, 64);
    for (uint i = lane; i < p.n; i += SIMD_WIDTH) {
        narrow[i] = b[i];
    }
    simdgroup_barrier(mem_flags::mem_threadgroup);
    for (uint i = lane; i < p.n; i += SIMD_WIDTH) {
        y[i] = narrow[p.n - 1u - i];
    }
    simdgroup_float8x8 filled = make_filled_simdgroup_matrix<float, 8, 8>(float(p.operand));
    simdgroup_store(filled, y + p.n, 8u);
    simdgroup_matrix<float, 8, 8> left;
    simdgroup_load(left, a);
    simdgroup_store(left, y + 2u * p.n);
    simdgroup_store(left, wide + 1u, 12u, ulong2(0u, 0u), true);
    simdgroup_barrier(mem_flags::mem_threadgroup);
    simdgroup_float8x8 turned;
    simdgroup_load(turned, wide + 1u, 12u);
    simdgroup_store(turned, y + 3u * p.n, 8u);
    simdgroup_load(turned, a, 8u, ulong2(0u, 0u), true);
    simdgroup_store(turned, y + 4u * p.n, 8u, ulong2(0u, 0u), true);
    simdgroup_half8x8 right;
    simdgroup_load(right, narrow, 8u);
    simdgroup_store(right, z, 8u);
    simdgroup_float8x8 product;
    simdgroup_multiply(product, left, turned);
    simdgroup_store(product, y + 5u * p.n, 8u);
    simdgroup_multiply_accumulate(product, left, right, filled);
    simdgroup_store(product, y + 6u * p.n, 8u);
    simdgroup_multiply_accumulate(left, left, right, left);
    simdgroup_store(left, y + 7u * p.n, 8u);
}

// What a matrix holds before anything is put into it: strict mode makes it no number, so that a use shows.
// Dispatched threads: n.
// Not handled: n other than SIMD_WIDTH.
kernel void right_unset_f32(
    device float* y [[buffer(0)]],  // [2 * n]
    constant CountParams& p [[buffer(1)]],
    uint gid [[thread_position_in_grid]])
{
    simdgroup_float8x8 unset;
    if (gid < p.n) {
        simdgroup_store(unset, y, 8u);
    }
}
