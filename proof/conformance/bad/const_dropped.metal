// rule: space-mix
#include "common.h"

struct Params {
    uint n;
    float s;
};

kernel void k(device float* a [[buffer(0)]], device const float* b [[buffer(1)]], uint gid [[thread_position_in_grid]])
{
    device float* q = b;  // mistake
    q[gid] = 1.0f;
}
