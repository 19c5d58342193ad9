// rule: attribute
#include "common.h"

struct Params {
    uint n;
    float s;
};

kernel void k(device float* a [[buffer(0)]], constant Params& p [[buffer(1)]],
 threadgroup float* tile,  // mistake
 uint gid [[thread_position_in_grid]])
{
    tile[0] = 1.0f;
    a[gid] = p.s;
}
