// rule: threadgroup-scope
#include "common.h"

struct Params {
    uint n;
    float s;
};

kernel void k(device float* a [[buffer(0)]], constant Params& p [[buffer(1)]], uint gid [[thread_position_in_grid]])
{
    if (p.n > 4u) {
        threadgroup float tile[4];  // mistake
        tile[gid % 4u] = 1.0f;
    }
    a[gid] = 1.0f;
}
