// rule: atomic
#include "common.h"

struct Params {
    uint n;
    float s;
};

kernel void k(device atomic_uint* a [[buffer(0)]], device uint* b [[buffer(1)]], uint gid [[thread_position_in_grid]])
{
    b[gid] = a[0];  // mistake
}
