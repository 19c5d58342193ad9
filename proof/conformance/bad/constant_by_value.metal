// rule: attribute
#include "common.h"
#include "params.h"

kernel void fresh_f32(
    device const float* x [[buffer(0)]],  // [n_rays]
    device float* y [[buffer(1)]],        // [n_rays]
    constant MarchParams& p [[buffer(2)]],
    constant uint n [[buffer(3)]],  // mistake
    uint gid [[thread_position_in_grid]])
{
    if (gid < n) {
        y[gid] = x[gid] + p.t_near;
    }
}
