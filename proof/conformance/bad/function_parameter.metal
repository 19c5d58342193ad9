// rule: function-pointer
#include "common.h"

struct Params {
    uint n;
    float s;
};

inline float apply(float (*f)(float), float x)  // mistake
{
    return f(x);
}

kernel void k(device float* a [[buffer(0)]], constant Params& p [[buffer(1)]], uint gid [[thread_position_in_grid]])
{
    a[gid] = 1.0f;
}
