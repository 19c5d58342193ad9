// rule: divergent-collective
#include "common.h"
#include "params.h"

inline bool is_marked(device const float* flags, uint lane)
{
    return flags[lane] > 0.5f;
}

kernel void fresh_f32(
    device const float* x [[buffer(0)]],  // [n_rays]
    device float* y [[buffer(1)]],        // [n_rays]
    constant MarchParams& p [[buffer(2)]],
    uint gid [[thread_position_in_grid]],
    uint lane [[thread_index_in_simdgroup]])
{
    float v = x[gid] * p.t_near;
    if (is_marked(x, lane)) {
        v = simd_sum(v);  // mistake
    }
    y[gid] = v;
}
