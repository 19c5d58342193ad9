// rule: const-write
#include "common.h"

struct Params {
    uint n;
    float s;
};

kernel void k(device const float* a [[buffer(0)]], uint gid [[thread_position_in_grid]])
{
    a[gid] = 1.0f;  // mistake
}
