// rule: divergent-collective
#include "common.h"

struct Params {
    uint n;
    float s;
};

kernel void k(device float* a [[buffer(0)]], uint2 gid [[thread_position_in_grid]])
{
    if (gid.y / SIMD_WIDTH == 0u) {
        a[gid.x] = simd_sum(1.0f);  // mistake
    }
}
