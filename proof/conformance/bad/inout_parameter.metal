// rule: undeclared
#include "common.h"

struct Params {
    uint n;
    float s;
};

inline void twice(inout float x)  // mistake
{
    x = 2.0f * x;
}

kernel void k(device float* a [[buffer(0)]], constant Params& p [[buffer(1)]], uint gid [[thread_position_in_grid]])
{
    float t = a[gid];
    twice(t);
    a[gid] = t;
}
