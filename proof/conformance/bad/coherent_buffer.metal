// rule: metal-version
#include "common.h"

struct Params {
    uint n;
    float s;
};

kernel void k(coherent(device) device float* a [[buffer(0)]],  // mistake
 uint gid [[thread_position_in_grid]])
{
    a[gid] = 1.0f;
}
