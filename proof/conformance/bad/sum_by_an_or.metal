// rule: divergent-collective
#include "common.h"

struct Params {
    uint n;
    float s;
};

kernel void k(device float* a [[buffer(0)]], constant Params& p [[buffer(1)]], uint lane [[thread_index_in_simdgroup]])
{
    const bool wanted = lane == 0u || p.n > 4u;
    if (wanted) {
        a[lane] = simd_sum(1.0f);  // mistake
    }
}
