// rule: divergent-collective
#include "common.h"

struct Params {
    uint n;
    float s;
};

kernel void k(device float* a [[buffer(0)]], uint lane [[thread_index_in_simdgroup]])
{
    if (lane == 0u) {
        threadgroup_barrier(mem_flags::mem_threadgroup);  // mistake
    }
    a[lane] = 1.0f;
}
