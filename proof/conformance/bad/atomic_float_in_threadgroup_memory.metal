// rule: atomic
#include "common.h"
#include "params.h"

kernel void fresh_f32(
    device const float* x [[buffer(0)]],  // [n_rays]
    device float* y [[buffer(1)]],        // [n_rays]
    constant MarchParams& p [[buffer(2)]],
    uint gid [[thread_position_in_grid]],
    uint lane [[thread_index_in_simdgroup]])
{
    threadgroup atomic_float sum;
    atomic_fetch_add_explicit(&sum, x[gid], memory_order_relaxed);  // mistake
    y[gid] = x[gid] * float(lane);
}
