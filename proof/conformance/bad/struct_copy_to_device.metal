// rule: struct-copy
#include "common.h"

struct Params {
    uint n;
    float s;
};

kernel void k(device Params* all [[buffer(0)]], uint gid [[thread_position_in_grid]])
{
    Params q;
    q.n = 1u;
    q.s = 2.0f;
    all[gid] = q;  // mistake
}
