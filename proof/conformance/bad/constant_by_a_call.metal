// rule: constant-initializer
#include "common.h"

struct Params {
    uint n;
    float s;
};

constant float STEP = exp(1.0f);  // mistake

kernel void k(device float* a [[buffer(0)]], constant Params& p [[buffer(1)]], uint gid [[thread_position_in_grid]])
{
    a[gid] = STEP;
}
