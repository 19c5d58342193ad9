// rule: address-space
#include "common.h"
#include "params.h"

struct View {
    float* data;  // mistake
    uint count;
};

kernel void fresh_f32(
    device const float* x [[buffer(0)]],  // [n_rays]
    device float* y [[buffer(1)]],        // [n_rays]
    constant MarchParams& p [[buffer(2)]],
    uint gid [[thread_position_in_grid]])
{
    View v;
    v.count = p.n_rays;
    y[gid] = x[gid] * float(v.count);
}
