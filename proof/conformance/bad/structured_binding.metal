// rule: language-version
#include "common.h"

struct Params {
    uint n;
    float s;
};

kernel void k(device float* a [[buffer(0)]], constant Params& p [[buffer(1)]], uint gid [[thread_position_in_grid]])
{
    float t[2] = {1.0f, 2.0f};
    auto [x, y] = t;  // mistake
    a[gid] = x + y;
}
