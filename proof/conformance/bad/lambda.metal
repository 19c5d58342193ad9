// rule: lambda
#include "common.h"

struct Params {
    uint n;
    float s;
};

kernel void k(device float* a [[buffer(0)]], constant Params& p [[buffer(1)]], uint gid [[thread_position_in_grid]])
{
    auto twice = [](float x) { return x * 2.0f; };  // mistake
    a[gid] = twice(a[gid]);
}
