// rule: divergent-collective
#include "common.h"

struct Params {
    uint n;
    float s;
};

kernel void k(device float* a [[buffer(0)]], uint index [[thread_index_in_threadgroup]],
 uint simd [[simdgroup_index_in_threadgroup]])
{
    SHARED(float, tile, 128);
    tile[index] = 1.0f;
    if (simd == 0u) {
        threadgroup_barrier(mem_flags::mem_threadgroup);  // mistake
    }
    a[index] = tile[index];
}
