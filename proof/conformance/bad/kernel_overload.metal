// rule: kernel-overload
#include "common.h"

struct Params {
    uint n;
    float s;
};

kernel void k(device float* a [[buffer(0)]], constant Params& p [[buffer(1)]], uint gid [[thread_position_in_grid]])
{
    a[gid] = p.s;
}

kernel void k(device int* a [[buffer(0)]], uint gid [[thread_position_in_grid]])  // mistake
{
    a[gid] = 1;
}
