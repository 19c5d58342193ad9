// rule: race
#include "common.h"

struct Params {
    uint n;
    float s;
};

kernel void k(device float* a [[buffer(0)]], uint index [[thread_index_in_threadgroup]])
{
    SHARED(float, tile, 128);
    tile[index] = a[index];
    a[index] = tile[127u - index];  // mistake
}
