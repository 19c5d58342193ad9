// rule: overload
#include "common.h"

struct Params {
    uint n;
    float s;
};

kernel void k(device atomic_uint* a [[buffer(0)]], uint gid [[thread_position_in_grid]])
{
    a[gid] = 1u;  // mistake
}
