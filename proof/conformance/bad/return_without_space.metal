// rule: address-space
#include "common.h"

struct Params {
    uint n;
    float s;
};

inline float* same(thread float* q)  // mistake
{
    return q;
}

kernel void k(device float* a [[buffer(0)]], constant Params& p [[buffer(1)]], uint gid [[thread_position_in_grid]])
{
    float t[1] = {1.0f};
    a[gid] = *same(t);
}
