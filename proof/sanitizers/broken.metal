// Kernels with one fault each, which a sanitizer must report with the words beside it. x and y have n elements, n
// is 32.
#include "common.h"
#include "params.h"

// The control: no fault.
// Dispatched threads: n.
// Not handled: nothing.
kernel void broken_nowhere_f32(
    device const float* x [[buffer(0)]],  // [n]
    device float* y [[buffer(1)]],        // [n]
    constant BrokenParams& p [[buffer(2)]],
    uint gid [[thread_position_in_grid]])
{
    if (gid < p.n) {
        y[gid] = x[gid];
    }
}

// One index past the end, read.
// Dispatched threads: n.
// Not handled: nothing.
kernel void broken_read_f32(
    device const float* x [[buffer(0)]],  // [n]
    device float* y [[buffer(1)]],        // [n]
    constant BrokenParams& p [[buffer(2)]],
    uint gid [[thread_position_in_grid]])
{
    if (gid < p.n) {
        y[gid] = x[gid + 1u];  // report: heap-buffer-overflow
    }
}

// One index past the end, written.
// Dispatched threads: n.
// Not handled: nothing.
kernel void broken_write_f32(
    device const float* x [[buffer(0)]],  // [n]
    device float* y [[buffer(1)]],        // [n]
    constant BrokenParams& p [[buffer(2)]],
    uint gid [[thread_position_in_grid]])
{
    if (gid < p.n) {
        y[gid + 1u] = x[gid];  // report: heap-buffer-overflow
    }
}

// One index in front of the buffer.
// Dispatched threads: n.
// Not handled: nothing.
kernel void broken_before_f32(
    device const float* x [[buffer(0)]],  // [n]
    device float* y [[buffer(1)]],        // [n]
    constant BrokenParams& p [[buffer(2)]],
    uint gid [[thread_position_in_grid]])
{
    if (gid < p.n) {
        y[gid] = x[int(gid) - 1];  // report: heap-buffer-overflow
    }
}

// An array of the thread's own, past its end.
// Dispatched threads: n.
// Not handled: nothing.
kernel void broken_array_f32(
    device const float* x [[buffer(0)]],  // [n]
    device float* y [[buffer(1)]],        // [n]
    constant BrokenParams& p [[buffer(2)]],
    uint gid [[thread_position_in_grid]])
{
    float own[8] = {x[gid], x[gid], x[gid], x[gid], x[gid], x[gid], x[gid], x[gid]};
    thread float* const any = own;
    y[gid] = any[p.n / 4u];  // report: insufficient space for an object
}

// Dispatched threads: n.
// Not handled: nothing.
kernel void broken_sum_f32(
    device const float* x [[buffer(0)]],  // [n]
    device float* y [[buffer(1)]],        // [n]
    constant BrokenParams& p [[buffer(2)]],
    uint gid [[thread_position_in_grid]])
{
    y[gid] = float(int(0x7FFFFFFF) + int(p.n)) + x[gid];  // report: signed integer overflow
}

// Dispatched threads: n.
// Not handled: nothing.
kernel void broken_shift_f32(
    device const float* x [[buffer(0)]],  // [n]
    device float* y [[buffer(1)]],        // [n]
    constant BrokenParams& p [[buffer(2)]],
    uint gid [[thread_position_in_grid]])
{
    y[gid] = float(1u << p.n) + x[gid];  // report: shift exponent 32 is too large
}

// Dispatched threads: n.
// Not handled: nothing.
kernel void broken_cast_f32(
    device const float* x [[buffer(0)]],  // [n]
    device float* y [[buffer(1)]],        // [n]
    constant BrokenParams& p [[buffer(2)]],
    uint gid [[thread_position_in_grid]])
{
    y[gid] = float(int(1e20f * float(p.n))) + x[gid];  // report: outside the range of representable values
}

// Dispatched threads: n.
// Not handled: nothing.
kernel void broken_alignment_f32(
    device const float* x [[buffer(0)]],  // [n]
    device float* y [[buffer(1)]],        // [n]
    constant BrokenParams& p [[buffer(2)]],
    uint gid [[thread_position_in_grid]])
{
    device const float* const odd = (device const float*)((device const uchar*)x + 1u);
    y[gid % p.n] = *odd;  // report: misaligned address
}

// One index past the end, written on a stack that other lanes have been switched to and from.
// Dispatched threads: n.
// Not handled: n that is no multiple of SIMD_WIDTH.
kernel void broken_after_barrier_f32(
    device const float* x [[buffer(0)]],  // [n]
    device float* y [[buffer(1)]],        // [n]
    constant BrokenParams& p [[buffer(2)]],
    uint gid [[thread_position_in_grid]],
    uint lane [[thread_index_in_simdgroup]])
{
    const float sum = simd_sum(x[gid]);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    y[gid + p.n / SIMD_WIDTH] = sum + float(lane);  // report: heap-buffer-overflow
}

// An array on such a stack.
// Dispatched threads: n.
// Not handled: n that is no multiple of SIMD_WIDTH.
kernel void broken_lane_array_f32(
    device const float* x [[buffer(0)]],  // [n]
    device float* y [[buffer(1)]],        // [n]
    constant BrokenParams& p [[buffer(2)]],
    uint gid [[thread_position_in_grid]],
    uint lane [[thread_index_in_simdgroup]])
{
    float one[16] = {x[gid]};
    float two[8] = {x[gid], x[gid], x[gid], x[gid], x[gid], x[gid], x[gid], x[gid]};
    thread float* const any = x[gid] > 2.0f ? one : two;  // the compiler does not know how far it reaches
    any[lane % 8u] = simd_sum(x[gid]);
    y[gid] = any[p.n / 4u];  // report: 'two' <== Memory access at offset 96 overflows this variable
}

// No fault for a sanitizer: strict mode refuses it, and leaves the frame where it stands.
// Dispatched threads: n.
// Not handled: nothing.
kernel void broken_divergence_f32(
    device const float* x [[buffer(0)]],  // [n]
    device float* y [[buffer(1)]],        // [n]
    constant BrokenParams& p [[buffer(2)]],
    uint gid [[thread_position_in_grid]],
    uint lane [[thread_index_in_simdgroup]])
{
    float own[64];
    for (uint i = 0u; i < 64u; ++i) {
        own[(i + lane) % 64u] = x[gid];
    }
    if (lane < p.n / 2u) {
        y[gid] = simd_sum(own[lane]);
    }
}

// No fault: a frame that reaches farther than the one above.
// Dispatched threads: n.
// Not handled: nothing.
kernel void broken_nowhere_rows_f32(
    device const float* x [[buffer(0)]],  // [n]
    device float* y [[buffer(1)]],        // [n]
    constant BrokenParams& p [[buffer(2)]],
    uint gid [[thread_position_in_grid]],
    uint lane [[thread_index_in_simdgroup]])
{
    float own[512];
    for (uint i = 0u; i < 512u; ++i) {
        own[(i + lane) % 512u] = x[gid];
    }
    y[gid] = simd_sum(own[p.n]);
}
