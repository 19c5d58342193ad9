// rule: buffer-type
#include "common.h"

struct Params {
    uint n;
    float s;
};

struct Camera {
    float3 origin;  // mistake
    uint n;
};

kernel void k(device float* a [[buffer(0)]], constant Camera& p [[buffer(1)]], uint gid [[thread_position_in_grid]])
{
    a[gid] = p.origin.x;
}
