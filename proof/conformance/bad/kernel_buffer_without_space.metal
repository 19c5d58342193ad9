// rule: address-space
#include "common.h"

struct Params {
    uint n;
    float s;
};

kernel void k(float* a [[buffer(0)]],  // mistake
 constant Params& p [[buffer(1)]], uint gid [[thread_position_in_grid]])
{
    a[gid] = p.s;
}
