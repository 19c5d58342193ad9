// rule: divergent-collective
#include "common.h"

struct Params {
    uint n;
    float s;
};

kernel void k(device float* a [[buffer(0)]], constant Params& p [[buffer(1)]], uint gid [[thread_position_in_grid]])
{
    SHARED(float, tile, 128);
    if (gid >= p.n) {
        return;
    }
    tile[gid % 128u] = a[gid];
    threadgroup_barrier(mem_flags::mem_threadgroup);  // mistake
    a[gid] = tile[0];
}
