// rule: overload
#include "common.h"

struct Params {
    uint n;
    float s;
};

kernel void k(device float* a [[buffer(0)]], device const half* h [[buffer(1)]], uint gid [[thread_position_in_grid]])
{
    a[gid] = max(h[gid], 0.0f);  // mistake
}
