// rule: uninitialized
#include "common.h"

struct Params {
    uint n;
    float s;
};

inline void add(thread float& sum, float x)
{
    sum += x;  // mistake
}

kernel void k(device float* a [[buffer(0)]], constant Params& p [[buffer(1)]], uint gid [[thread_position_in_grid]])
{
    float sum;
    add(sum, a[gid]);
    a[gid] = sum;
}
