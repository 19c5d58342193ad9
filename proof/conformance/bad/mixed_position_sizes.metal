// rule: attribute
#include "common.h"
#include "params.h"

kernel void fresh_f32(
    device const float* x [[buffer(0)]],  // [n_rays]
    device float* y [[buffer(1)]],        // [n_rays]
    constant MarchParams& p [[buffer(2)]],
    uint2 gid [[thread_position_in_grid]],
    uint group [[threadgroup_position_in_grid]])  // mistake
{
    y[gid.x] = x[gid.y] * float(group);
}
