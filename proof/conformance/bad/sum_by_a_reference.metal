// rule: divergent-collective
#include "common.h"

struct Params {
    uint n;
    float s;
};

inline void choose(thread uint& chosen, uint lane)
{
    chosen = lane;
}

kernel void k(device float* a [[buffer(0)]], constant Params& p [[buffer(1)]], uint lane [[thread_index_in_simdgroup]])
{
    uint chosen = 0u;
    choose(chosen, lane);
    if (chosen == 0u) {
        a[lane] = simd_sum(1.0f);  // mistake
    }
}
