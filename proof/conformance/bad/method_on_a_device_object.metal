// rule: struct-copy
#include "common.h"
#include "params.h"

struct Cell {
    float value;
    float twice() const { return 2.0f * value; }
};

kernel void fresh_f32(
    device const Cell* x [[buffer(0)]],  // [n_rays]
    device float* y [[buffer(1)]],        // [n_rays]
    constant MarchParams& p [[buffer(2)]],
    uint gid [[thread_position_in_grid]])
{
    y[gid] = x[gid].twice() + p.t_near;  // mistake
}
