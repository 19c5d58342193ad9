// rule: opencl
#include "common.h"

struct Params {
    uint n;
    float s;
};

kernel void k(__global float* a [[buffer(0)]],  // mistake
 uint gid [[thread_position_in_grid]])
{
    a[gid] = 1.0f;
}
