// rule: buffer-type
#include "common.h"

struct Params {
    uint n;
    float s;
};

kernel void k(device float3* a [[buffer(0)]],  // mistake
 uint gid [[thread_position_in_grid]])
{
    a[gid] = float3(1.0f, 2.0f, 3.0f);
}
