// rule: divergent-collective
#include "common.h"

struct Params {
    uint n;
    float s;
};

kernel void k(device float* a [[buffer(0)]], constant Params& p [[buffer(1)]], uint lane [[thread_index_in_simdgroup]])
{
    uint t[2] = {0u, 0u};
    t[lane % 2u] = 1u;
    if (t[0] == 1u) {
        a[lane] = simd_sum(1.0f);  // mistake
    }
}
