// rule: language-version
#include "common.h"

struct Params {
    uint n;
    float s;
};

kernel void k(device float* a [[buffer(0)]], constant Params& p [[buffer(1)]], uint gid [[thread_position_in_grid]])
{
    if (const float x = a[gid]; x > 0.0f) {  // mistake
        a[gid] = 1.0f;
    }
}
