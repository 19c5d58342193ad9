// rule: double
#include "common.h"

struct Params {
    uint n;
    float s;
};

struct State {
    double sum;  // mistake
};

kernel void k(device float* a [[buffer(0)]], constant Params& p [[buffer(1)]], uint gid [[thread_position_in_grid]])
{
    a[gid] = 0.0f;
}
