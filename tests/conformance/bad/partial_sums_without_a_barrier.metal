// rule: race
#include "common.h"

struct Params {
    uint n;
    float s;
};

kernel void k(device float* a [[buffer(0)]],
              uint index [[thread_index_in_threadgroup]],
              uint lane [[thread_index_in_simdgroup]],
              uint simd [[simdgroup_index_in_threadgroup]])
{
    SHARED(float, part, 4);
    const float s = simd_sum(a[index]);
    if (lane == 0u) {
        part[simd] = s;
    }
    if (index == 0u) {
        float total = 0.0f;
        for (uint i = 0u; i < 4u; ++i) {
            total += part[i];  // mistake
        }
        a[0] = total;
    }
}
