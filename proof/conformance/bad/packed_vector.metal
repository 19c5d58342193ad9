// rule: packed-type
#include "common.h"

struct Params {
    uint n;
    float s;
};

kernel void k(device float* a [[buffer(0)]], device const packed_float3* b [[buffer(1)]],  // mistake
 uint gid [[thread_position_in_grid]])
{
    a[gid] = 1.0f;
}
