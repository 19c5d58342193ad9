// rule: uninitialized
#include "common.h"

struct Params {
    uint n;
    float s;
};

kernel void k(device float* a [[buffer(0)]], constant Params& p [[buffer(1)]], uint gid [[thread_position_in_grid]])
{
    simdgroup_float8x8 m;
    simdgroup_store(m, a, 8u);  // mistake
}
