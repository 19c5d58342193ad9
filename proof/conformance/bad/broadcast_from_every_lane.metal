// rule: varying-argument
#include "common.h"

struct Params {
    uint n;
    float s;
};

kernel void k(device float* a [[buffer(0)]], uint lane [[thread_index_in_simdgroup]])
{
    a[lane] = simd_broadcast(a[lane], ushort(lane));  // mistake
}
