// rule: race
#include "common.h"

struct Params {
    uint n;
    float s;
};

kernel void k(device float* a [[buffer(0)]], uint lane [[thread_index_in_simdgroup]])
{
    SHARED(float, tile, 64);
    simdgroup_float8x8 m = make_filled_simdgroup_matrix<float, 8, 8>(1.0f);
    simdgroup_store(m, tile, 8u);
    a[lane] = tile[lane];  // mistake
}
