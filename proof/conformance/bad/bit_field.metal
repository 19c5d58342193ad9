// rule: bit-field
#include "common.h"

struct Params {
    uint n;
    float s;
};

struct Flags {
    uint low : 4;  // mistake
};

kernel void k(device float* a [[buffer(0)]], constant Params& p [[buffer(1)]], uint gid [[thread_position_in_grid]])
{
    a[gid] = 1.0f;
}
