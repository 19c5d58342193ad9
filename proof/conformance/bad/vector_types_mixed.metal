// rule: vector-mix
#include "common.h"

struct Params {
    uint n;
    float s;
};

kernel void k(device float* a [[buffer(0)]], constant Params& p [[buffer(1)]], uint gid [[thread_position_in_grid]])
{
    float3 v = float3(1.0f, 2.0f, 3.0f);
    int3 i = v;  // mistake
    a[gid] = v.x + float(i.x);
}
