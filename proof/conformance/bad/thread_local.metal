// rule: storage-class
#include "common.h"

struct Params {
    uint n;
    float s;
};

kernel void k(device float* a [[buffer(0)]], constant Params& p [[buffer(1)]], uint gid [[thread_position_in_grid]])
{
    thread_local float x = a[gid];  // mistake
    a[gid] = x;
}
