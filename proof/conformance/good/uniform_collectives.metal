// Collectives that all threads they are for do reach, though it takes a look to see it.
#include "common.h"

struct Params {
    uint n;
    float eps;
};

inline float total_of(threadgroup const float* tile, uint n)
{
    float sum = 0.0f;
    for (uint i = 0u; i < n; ++i) {
        sum += tile[i];
    }
    return sum;
}

inline bool is_beyond(uint group, constant Params& p)
{
    return group >= p.n || p.eps < 0.0f;
}

// A SIMD-group leaves as a whole; a loop that a SIMD-group leaves as a whole.
kernel void by_simdgroup(
    device float* a [[buffer(0)]],  // [n]
    constant Params& p [[buffer(1)]],
    uint gid [[thread_position_in_grid]],
    uint lane [[thread_index_in_simdgroup]])
{
    const uint group = gid / SIMD_WIDTH;
    if (is_beyond(group, p)) {
        return;
    }
    float carry = 1.0f;
    for (uint base = 0u; base < p.n; base += SIMD_WIDTH) {
        float keep = 1.0f;
        if (base + lane < p.n) {
            keep = a[base + lane];
        }
        carry *= simd_product(keep);
        if (carry < p.eps) {
            break;
        }
    }
    const uint row = gid & ~31u;
    if (a[row] > 0.0f) {
        carry += simd_sum(a[gid]);
    }
    a[gid] = carry;
}

// The same by the SIMD-group's index, or by where in the threadgroup the whole of it lies.
kernel void by_index(
    device float* a [[buffer(0)]],  // [n]
    uint gid [[thread_position_in_grid]],
    uint index [[thread_index_in_threadgroup]],
    uint simd [[simdgroup_index_in_threadgroup]])
{
    float x = a[gid];
    if (simd >= 4u) {
        return;
    }
    const uint number = index;
    if (number / SIMD_WIDTH == 3u) {
        x = simd_product(x);
    }
    if (simd == 0u) {
        x = simd_sum(x);
    }
    if (index < 64u && simd != 0u) {
        x = simd_sum(x);
    }
    if (index >> 5u == 3u) {
        x = simd_broadcast(x, ushort(simd));
    }
    a[gid] = x;
}

struct Span {
    uint first;
    uint count;
};

inline Span span_of(uint lane, uint n)
{
    Span span;
    span.first = lane;
    span.count = n;
    return span;
}

struct Spans {
    Span own;
    Span common;
};

// Of a struct that is copied one member varies, and the other decides; an array of a thread's own; chosen members.
kernel void by_member(
    device float* a [[buffer(0)]],  // [n]
    constant Params& p [[buffer(1)]],
    uint lane [[thread_index_in_simdgroup]])
{
    const Span span = span_of(lane, p.n);
    Span copy;
    copy = span;
    Spans spans;
    spans.own = copy;
    spans.common.first = 0u;
    spans.common.count = p.n;
    const Span common = spans.common;
    uint steps[2] = {lane, p.n};
    float x = a[copy.first];
    for (uint i = 0u; i < copy.count; ++i) {
        x = simd_sum(x);
    }
    if (steps[1] > 4u && (p.eps > 0.0f || common.count > 2u)) {
        x = simd_sum(x);
    }
    SHARED(float, tile, 64);
    tile[lane] = x;
    tile[lane] += 1.0f;
    if (lane == 0u) {
        x = tile[0];
    }
    a[steps[0]] = x;
}

// Barriers that a whole threadgroup reaches: after branches, in loops, by what one place says.
kernel void by_threadgroup(
    device float* a [[buffer(0)]],  // [n]
    constant Params& p [[buffer(1)]],
    uint group [[threadgroup_position_in_grid]],
    uint index [[thread_index_in_threadgroup]],
    uint lane [[thread_index_in_simdgroup]],
    uint simd [[simdgroup_index_in_threadgroup]])
{
    SHARED(float, tile, 128);
    SHARED(float, flag, 1);
    const float sum = simd_sum(a[index]);
    if (lane == 0u) {
        tile[simd] = sum;
    }
    if (index == 0u) {
        flag[0] = a[group];
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (flag[0] > p.eps) {
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    for (uint i = index; i < p.n; i += 128u) {
        a[i] = total_of(tile, 4u);
    }
    for (uint step = 2u; step > 0u; step /= 2u) {
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (index < step) {
            tile[index] += tile[index + step];
        }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    a[index] = p.n > 4u && group > 0u ? tile[0] : tile[1];
}
