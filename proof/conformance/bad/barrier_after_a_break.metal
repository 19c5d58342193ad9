// rule: divergent-collective
#include "common.h"

struct Params {
    uint n;
    float s;
};

kernel void k(device float* a [[buffer(0)]], constant Params& p [[buffer(1)]], uint gid [[thread_position_in_grid]])
{
    float x = 1.0f;
    for (uint i = 0u; i < p.n; ++i) {
        if (a[gid + i] > p.s) {
            break;
        }
        x = simd_sum(x);  // mistake
    }
    a[gid] = x;
}
