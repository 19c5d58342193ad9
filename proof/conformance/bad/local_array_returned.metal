// rule: dangling
#include "common.h"

struct Params {
    uint n;
    float s;
};

inline thread float* pair(float x)
{
    float t[2] = {x, x};
    return t;  // mistake
}

kernel void k(device float* a [[buffer(0)]], constant Params& p [[buffer(1)]], uint gid [[thread_position_in_grid]])
{
    a[gid] = pair(a[gid])[1];
}
