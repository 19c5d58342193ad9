// rule: struct-copy
#include "common.h"

struct Params {
    uint n;
    float s;
};

kernel void k(device float* a [[buffer(0)]],
              device const Params* all [[buffer(1)]],
              uint gid [[thread_position_in_grid]])
{
    Params q = all[gid];  // mistake
    a[gid] = q.s;
}
