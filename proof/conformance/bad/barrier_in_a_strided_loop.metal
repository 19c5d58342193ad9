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
    float total = 0.0f;
    for (uint i = lane; i < p.n_samples; i += SIMD_WIDTH) {
        total += x[i];
        simdgroup_barrier(mem_flags::mem_threadgroup);  // mistake
    }
    y[gid] = total;
}
