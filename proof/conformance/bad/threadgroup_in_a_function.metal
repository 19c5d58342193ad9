// rule: threadgroup-scope
#include "common.h"

struct Params {
    uint n;
    float s;
};

inline float tile_first()
{
    threadgroup float tile[4];  // mistake
    tile[0] = 1.0f;
    return tile[0];
}

kernel void k(device float* a [[buffer(0)]], constant Params& p [[buffer(1)]], uint gid [[thread_position_in_grid]])
{
    a[gid] = tile_first();
}
