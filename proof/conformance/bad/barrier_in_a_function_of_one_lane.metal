// rule: divergent-collective
#include "common.h"

struct Params {
    uint n;
    float s;
};

inline void finish(threadgroup float* tile)
{
    tile[0] = 1.0f;
    simdgroup_barrier(mem_flags::mem_threadgroup);  // mistake
}

inline void perhaps(threadgroup float* tile, uint i)
{
    if (i == 0u) {
        finish(tile);
    }
}

kernel void k(device float* a [[buffer(0)]], uint lane [[thread_index_in_simdgroup]])
{
    SHARED(float, tile, 4);
    perhaps(tile, lane);
    a[lane] = 1.0f;
}
