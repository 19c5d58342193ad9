// rule: divergent-collective
#include "common.h"

struct Params {
    uint n;
    float s;
};

kernel void k(device float* a [[buffer(0)]], constant Params& p [[buffer(1)]], uint lane [[thread_index_in_simdgroup]])
{
    uint x = 0u;
    uint y = 1u;
    thread uint* at = &x;
    if (lane == 0u) {
        at = &y;
    }
    if (*at == 1u) {
        a[lane] = simd_sum(1.0f);  // mistake
    }
}
