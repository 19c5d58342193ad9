// rule: divergent-collective
#include "common.h"

struct Params {
    uint n;
    float s;
};

kernel void k(device atomic_uint* a [[buffer(0)]], device float* b [[buffer(1)]])
{
    const uint turn = atomic_fetch_add_explicit(&a[0], 1u, memory_order_relaxed);
    if (turn == 0u) {
        b[0] = simd_sum(1.0f);  // mistake
    }
}
