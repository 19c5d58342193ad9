// rule: overload
#include "common.h"

struct Params {
    uint n;
};

inline float limited(device const float* a, uint i)
{
    return min(a[i], 1.0f);
}

template <typename T>
kernel void k(
    device const T* a [[buffer(0)]],  // [n]
    device float* b [[buffer(1)]],    // [n]
    constant Params& p [[buffer(2)]],
    uint gid [[thread_position_in_grid]])
{
    if (gid < p.n) {
        b[gid] = limited(a, gid);  // mistake
    }
}

INSTANTIATE(k_f32, k, float);
INSTANTIATE(k_f16, k, half);
