// rule: divergent-collective
#include "common.h"

struct Params {
    uint n;
    float s;
};

kernel void k(device float* a [[buffer(0)]], uint index [[thread_index_in_threadgroup]])
{
    SHARED(float, tile, 128);
    tile[index] = a[index];
    while (tile[index] > 0.5f) {
        tile[index] *= 0.5f;
        threadgroup_barrier(mem_flags::mem_threadgroup);  // mistake
    }
    a[index] = tile[index];
}
