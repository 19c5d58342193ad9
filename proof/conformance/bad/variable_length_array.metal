// rule: vla
#include "common.h"

struct Params {
    uint n;
    float s;
};

kernel void k(device float* a [[buffer(0)]], constant Params& p [[buffer(1)]], uint gid [[thread_position_in_grid]])
{
    float t[p.n];  // mistake
    t[0] = 1.0f;
    a[gid] = t[0];
}
