// rule: attribute
#include "common.h"

struct Params {
    uint n;
    float s;
};

kernel void k(device float* a [[buffer(0)]], constant Params& p [[buffer(1)]],
 int gid [[thread_position_in_grid]]  // mistake
)
{
    a[gid] = p.s;
}
