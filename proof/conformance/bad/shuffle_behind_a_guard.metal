// rule: divergent-collective
#include "common.h"

struct Params {
    uint n;
    float s;
};

kernel void k(device float* a [[buffer(0)]], constant Params& p [[buffer(1)]], uint gid [[thread_position_in_grid]])
{
    float x = 0.0f;
    const bool active = gid < p.n;
    if (!active) {
        return;
    }
    x = a[gid];
    for (ushort step = 16; step > 0; step /= 2) {
        x += simd_shuffle_down(x, step);  // mistake
    }
    a[gid] = x;
}
