// rule: variadic
#include "common.h"

struct Params {
    uint n;
    float s;
};

inline float sum_of(int n, ...)  // mistake
{
    return float(n);
}

kernel void k(device float* a [[buffer(0)]], constant Params& p [[buffer(1)]], uint gid [[thread_position_in_grid]])
{
    a[gid] = 1.0f;
}
