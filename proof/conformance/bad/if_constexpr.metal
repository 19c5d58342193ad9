// rule: language-version
#include "common.h"

struct Params {
    uint n;
    float s;
};

template <bool WIDE>
inline float pick(float x)
{
    if constexpr (WIDE) {  // mistake
        return x;
    }
    return 1.0f;
}

kernel void k(device float* a [[buffer(0)]], constant Params& p [[buffer(1)]], uint gid [[thread_position_in_grid]])
{
    a[gid] = pick<true>(a[gid]);
}
