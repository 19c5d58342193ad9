// rule: divergent-collective
#include "common.h"

struct Params {
    uint n;
    float s;
};

kernel void k(device float* a [[buffer(0)]], constant Params& p [[buffer(1)]], uint gid [[thread_position_in_grid]])
{
    float x = 0.0f;
    switch (gid % 2u) {
        case 0u: x = simd_sum(1.0f); break;  // mistake
        default: x = 2.0f; break;
    }
    a[gid] = x;
}
