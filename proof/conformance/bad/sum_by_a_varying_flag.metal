// rule: divergent-collective
#include "common.h"

struct Params {
    uint n;
    float s;
};

kernel void k(device float* a [[buffer(0)]], constant Params& p [[buffer(1)]], uint gid [[thread_position_in_grid]])
{
    bool wanted = false;
    if (gid % 2u == 0u) {
        wanted = true;
    }
    float x = 0.0f;
    if (wanted) {
        x = simd_sum(1.0f);  // mistake
    }
    a[gid] = x;
}
