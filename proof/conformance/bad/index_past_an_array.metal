// rule: array-bound
#include "common.h"

struct Params {
    uint n;
    float s;
};

kernel void k(device float* a [[buffer(0)]], constant Params& p [[buffer(1)]], uint gid [[thread_position_in_grid]])
{
    float t[3];
    for (uint i = 0u; i < 3u; ++i) {
        t[i] = a[i];
    }
    a[gid] = t[3];  // mistake
}
