// rule: recursion
#include "common.h"

struct Params {
    uint n;
    float s;
};

inline float down(float x)
{
    return x < 1.0f ? x : down(x - 1.0f);  // mistake
}

kernel void k(device float* a [[buffer(0)]], constant Params& p [[buffer(1)]], uint gid [[thread_position_in_grid]])
{
    a[gid] = down(a[gid]);
}
