// rule: uninitialized
#include "common.h"

struct Params {
    uint n;
    float s;
};

kernel void k(device float* a [[buffer(0)]], constant Params& p [[buffer(1)]], uint gid [[thread_position_in_grid]])
{
    float sum;
    for (uint i = 0u; i < p.n; ++i) {
        sum += a[i];  // mistake
    }
    a[gid] = 1.0f;
}
