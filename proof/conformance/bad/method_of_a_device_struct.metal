// rule: struct-copy
#include "common.h"

struct Params {
    uint n;
    float s;
};

struct Pair {
    float x;
    float y;
    float sum() const { return x + y; }
};

kernel void k(device float* a [[buffer(0)]], device const Pair* all [[buffer(1)]], uint gid [[thread_position_in_grid]])
{
    a[gid] = all[gid].sum();  // mistake
}
