// rule: address-space
#include "common.h"

struct Params {
    uint n;
    float s;
};

inline float first(float* q)  // mistake
{
    return q[0];
}

kernel void k(device float* a [[buffer(0)]], constant Params& p [[buffer(1)]], uint gid [[thread_position_in_grid]])
{
    a[gid] = first(a);
}
