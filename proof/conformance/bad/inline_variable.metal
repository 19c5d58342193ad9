// rule: language-version
#include "common.h"

struct Params {
    uint n;
    float s;
};

inline constexpr constant float HALF = 0.5f;  // mistake

kernel void k(device float* a [[buffer(0)]], constant Params& p [[buffer(1)]], uint gid [[thread_position_in_grid]])
{
    a[gid] = HALF;
}
