// rule: divergent-collective
#include "common.h"

struct Params {
    uint n;
};

template <bool SIMD>
kernel void k(
    device float* a [[buffer(0)]],  // [n]
    constant Params& p [[buffer(1)]],
    uint gid [[thread_position_in_grid]],
    uint lane [[thread_index_in_simdgroup]])
{
    const uint item = SIMD ? gid / SIMD_WIDTH : gid;
    if (item >= p.n) {
        return;
    }
    float sum = 1.0f;
    if (SIMD && lane < 4u) {
        sum = simd_sum(1.0f);  // mistake
    }
    if (!SIMD || lane == 0u) {
        a[item] = sum;
    }
}

INSTANTIATE(k_f32, k, false);
INSTANTIATE(k_simd_f32, k, true);
