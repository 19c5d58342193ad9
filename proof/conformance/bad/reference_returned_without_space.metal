// rule: address-space
#include "common.h"
#include "params.h"

inline float& element(device float* values, uint i)  // mistake
{
    return values[i];
}

kernel void fresh_f32(
    device const float* x [[buffer(0)]],  // [n_rays]
    device float* y [[buffer(1)]],        // [n_rays]
    constant MarchParams& p [[buffer(2)]],
    uint gid [[thread_position_in_grid]])
{
    element(y, gid) = x[gid] + p.t_near;
}
