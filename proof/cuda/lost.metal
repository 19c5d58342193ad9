// Kernels in which lanes wait for others in vain, for the emulation to complain of.
#include "common.h"
#include "params.h"

// Dispatched threads: n.
// Not handled: n that is no multiple of SIMD_WIDTH. What is wrong: the last lane leaves after so many shuffles.
kernel void lost_leaver(
    device float* y [[buffer(0)]],  // [n]
    constant LaneParams& p [[buffer(1)]],
    uint gid [[thread_position_in_grid]],
    uint lane [[thread_index_in_simdgroup]])
{
    float value = float(lane);
    for (uint i = 0u; i < 4u; ++i) {
        if (lane == SIMD_WIDTH - 1u && i == p.operand) {
            return;
        }
        value = simd_broadcast(value, ushort(SIMD_WIDTH - 1u));
    }
    y[gid] = value;
}

// Dispatched threads: n.
// Not handled: n that is no multiple of SIMD_WIDTH. What is wrong: the last lane is at a barrier, the others shuffle.
kernel void lost_at_barrier(
    device float* y [[buffer(0)]],  // [n]
    constant LaneParams& p [[buffer(1)]],
    uint gid [[thread_position_in_grid]],
    uint lane [[thread_index_in_simdgroup]])
{
    float value = float(lane);
    for (uint i = 0u; i < 4u; ++i) {
        if (lane == SIMD_WIDTH - 1u && i == p.operand) {
            simdgroup_barrier(mem_flags::mem_threadgroup);
        } else {
            value = simd_broadcast(value, ushort(SIMD_WIDTH - 1u));
        }
    }
    y[gid] = value;
}

// Dispatched threads: n.
// Not handled: n that is no multiple of SIMD_WIDTH. What is wrong: after the first shuffle, which a lane misses, the
// others wait at a barrier of the threadgroup and this one at another.
kernel void lost_between(
    device float* y [[buffer(0)]],  // [n]
    constant LaneParams& p [[buffer(1)]],
    uint gid [[thread_position_in_grid]],
    uint lane [[thread_index_in_simdgroup]])
{
    float value = float(lane);
    if (lane == SIMD_WIDTH - 1u) {
        simdgroup_barrier(mem_flags::mem_threadgroup);
        simdgroup_barrier(mem_flags::mem_threadgroup);
    } else {
        value = simd_broadcast(value, ushort(SIMD_WIDTH - 1u));
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    y[gid] = value;
}
