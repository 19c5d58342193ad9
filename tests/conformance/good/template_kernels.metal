// Template kernels, and the lines that make kernels of them: each is read by itself.
#include "common.h"

struct Params {
    uint n;
};

inline float of(float x)
{
    return x;
}

template <typename T>
kernel void copy(
    device const T* a [[buffer(0)]],  // [n]
    device float* b [[buffer(1)]],    // [n]
    constant Params& p [[buffer(2)]],
    uint gid [[thread_position_in_grid]])
{
    if (gid < p.n) {
        b[gid] = of(float(a[gid]));
    }
}

INSTANTIATE(copy_f32, copy, float);
INSTANTIATE(copy_f16, copy, half);

// A sum over lanes where SIMD says so.
template <typename T, bool SIMD>
kernel void sum(
    device const T* a [[buffer(0)]],  // [n]
    device float* b [[buffer(1)]],    // [n]
    constant Params& p [[buffer(2)]],
    uint gid [[thread_position_in_grid]],
    uint lane [[thread_index_in_simdgroup]])
{
    const uint item = SIMD ? gid / SIMD_WIDTH : gid;
    if (item >= p.n) {
        return;
    }
    const float value = float(a[item]);
    if (SIMD) {
        const float total = simd_sum(lane == 0u ? value : 0.0f);
        if (lane == 0u) {
            b[item] = total;
        }
    } else {
        b[item] = value;
    }
}

INSTANTIATE(sum_f32, sum, float, false);
INSTANTIATE(sum_simd_f32, sum, float, true);
INSTANTIATE(sum_simd_f16, sum, half, true);
