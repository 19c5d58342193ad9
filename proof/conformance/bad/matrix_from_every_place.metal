// rule: varying-argument
#include "common.h"

struct Params {
    uint n;
    float s;
};

kernel void k(device float* a [[buffer(0)]], uint lane [[thread_index_in_simdgroup]])
{
    simdgroup_float8x8 m;
    simdgroup_load(m, a + lane, 8u);  // mistake
    simdgroup_store(m, a, 8u);
}
