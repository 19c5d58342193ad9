// rule: buffer-index
#include "common.h"

struct Params {
    uint n;
    float s;
};

kernel void k(device float* a [[buffer(0)]], constant Params& p [[buffer(0)]],  // mistake
 uint gid [[thread_position_in_grid]])
{
    a[gid] = p.s;
}
