// rule: literal-suffix
#include "common.h"

struct Params {
    uint n;
    float s;
};

constexpr constant float HALF = 0.5;  // mistake

kernel void k(device float* a [[buffer(0)]], constant Params& p [[buffer(1)]], uint gid [[thread_position_in_grid]])
{
    a[gid] = HALF;
}
