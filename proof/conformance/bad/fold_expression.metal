// rule: language-version
#include "common.h"

struct Params {
    uint n;
    float s;
};

template <typename... T>
inline float sum_of(T... x)
{
    return (x + ...);  // mistake
}

kernel void k(device float* a [[buffer(0)]], constant Params& p [[buffer(1)]], uint gid [[thread_position_in_grid]])
{
    a[gid] = sum_of(1.0f, a[gid]);
}
