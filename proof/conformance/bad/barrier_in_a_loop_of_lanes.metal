// rule: divergent-collective
#include "common.h"

struct Params {
    uint n;
    float s;
};

kernel void k(device float* a [[buffer(0)]], constant Params& p [[buffer(1)]], uint lane [[thread_index_in_simdgroup]])
{
    float sum = 0.0f;
    for (uint i = lane; i < p.n; i += SIMD_WIDTH) {
        sum += simd_sum(a[i]);  // mistake
    }
    a[lane] = sum;
}
