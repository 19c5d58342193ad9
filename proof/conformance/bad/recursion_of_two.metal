// rule: recursion
#include "common.h"

struct Params {
    uint n;
    float s;
};

inline uint odd(uint x);
inline uint even(uint x)
{
    return x == 0u ? 1u : odd(x - 1u);  // mistake
}
inline uint odd(uint x)
{
    return x == 0u ? 0u : even(x - 1u);
}

kernel void k(device float* a [[buffer(0)]], constant Params& p [[buffer(1)]], uint gid [[thread_position_in_grid]])
{
    a[gid] = float(int(even(gid)));
}
