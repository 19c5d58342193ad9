// rule: unwritten-threadgroup
#include "common.h"

struct Params {
    uint n;
    float s;
};

kernel void k(device float* a [[buffer(0)]], constant Params& p [[buffer(1)]], uint gid [[thread_position_in_grid]])
{
    SHARED(float, tile, 32);
    const float before = tile[gid % 32u];  // mistake
    tile[gid % 32u] = a[gid];
    a[gid] = before;
}
