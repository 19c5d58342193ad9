// rule: undeclared
#include "common.h"

struct Params {
    uint n;
};

template <typename T>
kernel void k(
    device T* a [[buffer(0)]],  // [n]
    constant Params& p [[buffer(1)]],
    uint gid [[thread_position_in_grid]])
{
    if (gid < p.n) {
        a[gid] = T(1);
    }
}

INSTANTIATE(k_f32, k, float);
INSTANTIATE(k_f16, other, half);  // mistake
