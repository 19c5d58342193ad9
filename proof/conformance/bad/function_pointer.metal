// rule: function-pointer
#include "common.h"

struct Params {
    uint n;
    float s;
};

inline float same(float x)
{
    return x;
}

kernel void k(device float* a [[buffer(0)]], constant Params& p [[buffer(1)]], uint gid [[thread_position_in_grid]])
{
    float (*f)(float) = same;  // mistake
    a[gid] = f(a[gid]);
}
