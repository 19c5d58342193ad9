// rule: noexcept
#include "common.h"

struct Params {
    uint n;
    float s;
};

inline float same(float x) noexcept  // mistake
{
    return x;
}

kernel void k(device float* a [[buffer(0)]], constant Params& p [[buffer(1)]], uint gid [[thread_position_in_grid]])
{
    a[gid] = same(a[gid]);
}
