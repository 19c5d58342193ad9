// rule: uninitialized
#include "common.h"

struct Params {
    uint n;
    float s;
};

struct Sums {
    float x;
    float y;
};

kernel void k(device float* a [[buffer(0)]], constant Params& p [[buffer(1)]], uint gid [[thread_position_in_grid]])
{
    Sums sums;
    sums.x = a[gid];
    a[gid] = sums.x + sums.y;  // mistake
}
