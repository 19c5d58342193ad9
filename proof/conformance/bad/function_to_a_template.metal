// rule: function-pointer
#include "common.h"

struct Params {
    uint n;
    float s;
};

template <typename F>
inline float apply(F f, float x)
{
    return f(x);
}

inline float twice(float x)
{
    return 2.0f * x;
}

kernel void k(device float* a [[buffer(0)]], constant Params& p [[buffer(1)]], uint gid [[thread_position_in_grid]])
{
    a[gid] = apply(twice, a[gid]);  // mistake
}
