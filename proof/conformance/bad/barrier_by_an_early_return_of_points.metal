// rule: divergent-collective
#include "common.h"

struct Params {
    uint n;
    float s;
};

kernel void k(device float* a [[buffer(0)]], constant Params& p [[buffer(1)]], uint2 gid [[thread_position_in_grid]])
{
    if (gid.x >= p.n) {
        return;
    }
    a[gid.y] = simd_product(2.0f);  // mistake
}
