// rule: divergent-collective
#include "common.h"
#include "params.h"

kernel void fresh_f32(
    device const float* x [[buffer(0)]],  // [n_rays]
    device float* y [[buffer(1)]],        // [n_rays]
    constant MarchParams& p [[buffer(2)]],
    uint gid [[thread_position_in_grid]],
    uint lane [[thread_index_in_simdgroup]])
{
    const float v = gid < p.n_rays ? x[gid] : 0.0f;
    const float s = lane < 16u ? simd_sum(v) : 0.0f;  // mistake
    if (gid < p.n_rays) {
        y[gid] = s;
    }
}
