// rule: rtti
#include "common.h"

struct Params {
    uint n;
    float s;
};

kernel void k(device float* a [[buffer(0)]], constant Params& p [[buffer(1)]], uint gid [[thread_position_in_grid]])
{
    a[gid] = typeid(gid) == typeid(p.n) ? 1.0f : 0.0f;  // mistake
}
