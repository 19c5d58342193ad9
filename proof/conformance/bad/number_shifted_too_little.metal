// rule: divergent-collective
#include "common.h"

struct Params {
    uint n;
    float s;
};

kernel void k(device float* a [[buffer(0)]], uint index [[thread_index_in_threadgroup]])
{
    if (index >> 4u == 0u) {
        a[index] = simd_sum(1.0f);  // mistake
    }
}
