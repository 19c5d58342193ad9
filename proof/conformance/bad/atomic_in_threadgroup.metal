// rule: atomic
#include "common.h"

struct Params {
    uint n;
    float s;
};

kernel void k(device float* a [[buffer(0)]], constant Params& p [[buffer(1)]], uint gid [[thread_position_in_grid]])
{
    SHARED(atomic_uint, count, 1);
    atomic_fetch_add_explicit(&count[0], 1u, memory_order_relaxed);  // mistake
    a[gid] = 1.0f;
}
