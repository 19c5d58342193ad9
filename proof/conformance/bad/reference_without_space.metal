// rule: address-space
#include "common.h"

struct Params {
    uint n;
    float s;
};

inline void set(float& x)  // mistake
{
    x = 1.0f;
}

kernel void k(device float* a [[buffer(0)]], constant Params& p [[buffer(1)]], uint gid [[thread_position_in_grid]])
{
    float t;
    set(t);
    a[gid] = t;
}
