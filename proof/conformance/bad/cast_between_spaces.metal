// rule: space-mix
#include "common.h"

struct Params {
    uint n;
    float s;
};

kernel void k(device float* a [[buffer(0)]], constant Params& p [[buffer(1)]], uint gid [[thread_position_in_grid]])
{
    thread float* q = (thread float*)a;  // mistake
    a[gid] = q[0];
}
